/**
 * Questions to the kernel over a netlink socket that stays. Node has none, so socat has it; where socat is not installed there is no line.
 * On an emulated processor an answer costs milliseconds this way, and a command that asks the same a tenth of a second.
 */
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { KeptChild, type Question } from "../kept-child.ts";
import type { NetlinkMessage } from "./netlink.ts";
import { answerReader, endOf } from "./wireguard-netlink.ts";

/** Raw socket of generic netlink, to the kernel (port 0, no groups). */
const SOCAT = ["-b", "65536", "-", "SOCKET-SENDTO:16:3:16:x00000000000000000000"];
const FIELD = "a question to the kernel";

/** `failed`: the kernel's number of the error; 0: none. */
interface Answer {
  readonly messages: readonly NetlinkMessage[];
  readonly failed: number;
}

export class NetlinkLine {
  readonly #socat = new KeptChild("socat", SOCAT);
  #sequence = 0;

  /**
   * The messages that answer, without the one that ends them. Undefined where there is no line; COMMAND_FAILED when the kernel refuses, the
   * line breaks, or the answer is late. One question after the other.
   */
  async ask(question: (sequence: number) => Buffer, timeoutMs: number): Promise<readonly NetlinkMessage[] | undefined> {
    const answer = await this.#socat.ask(() => this.#question(question, timeoutMs));
    if (answer === undefined && this.#socat.absent) return undefined;
    if (answer === undefined) throw failed("socat has ended");
    if (answer.failed !== 0) throw failed(`it answers with error ${answer.failed}`);
    return answer.messages;
  }

  #question(question: (sequence: number) => Buffer, timeoutMs: number): Question<Answer> {
    const sequence = ++this.#sequence;
    const reader = answerReader();
    const messages: NetlinkMessage[] = [];
    const read = (bytes: Buffer) => {
      for (const message of messagesIn(reader, bytes)) {
        if (message.sequence !== sequence) continue;
        const end = endOf(message);
        if (end !== undefined) return { answer: { messages, failed: end.failed } };
        messages.push(message);
      }
      return undefined;
    };
    return { text: question(sequence), read, field: FIELD, timeoutMs };
  }
}

function messagesIn(reader: ReturnType<typeof answerReader>, bytes: Buffer): readonly NetlinkMessage[] {
  try {
    return reader.read(bytes);
  } catch (thrown) {
    throw failed(messageOf(thrown));
  }
}

function failed(detail: string): ForeshiftError {
  return new ForeshiftError("COMMAND_FAILED", { field: FIELD, detail });
}
