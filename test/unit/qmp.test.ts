// QEMU's monitor and the agent in a guest, spoken to over a pair of streams whose other end the test holds.
import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { GuestAgent } from "../../drivers/qemu/guest-agent.ts";
import { Qmp } from "../../drivers/qemu/qmp.ts";
import type { ForeshiftError } from "../../models/errors.ts";

type Question = { execute: string; id?: number; arguments?: { id?: number } };

/** Answers each question as `answer` says; undefined: not at all. */
function peer(answer: (question: Question) => object | undefined, greeting?: object) {
  const [ours, theirs] = duplexPair();
  const asked: string[] = [];
  theirs.on("data", (bytes: Buffer) => {
    for (const line of bytes
      .toString()
      .split("\n")
      .filter((text) => text !== "")) {
      const question: Question = JSON.parse(line);
      asked.push(question.execute);
      const said = answer(question);
      // In two pieces, as a stream may deliver it.
      if (said === undefined) continue;
      const text = `${JSON.stringify(said)}\r\n`;
      theirs.write(text.slice(0, 5));
      theirs.write(text.slice(5));
    }
  });
  if (greeting !== undefined) theirs.write(`${JSON.stringify(greeting)}\n`);
  return { ours, theirs, asked };
}

const codeIs = (code: string) => (error: ForeshiftError) => error.code === code;
const GREETING = { QMP: { version: {}, capabilities: [] } };

test("a monitor is greeted, told its capabilities, and answers by the question's number whatever it says in between", async () => {
  const { ours, theirs, asked } = peer(({ execute, id }) => {
    if (execute === "query-status") theirs.write(`${JSON.stringify({ event: "STOP", data: {}, timestamp: {} })}\n`);
    return execute === "refused" ? { id, error: { class: "GenericError", desc: "not so" } } : { id, return: { said: execute } };
  }, GREETING);
  const qmp = new Qmp(ours, "test");
  await qmp.open();
  assert.deepEqual(await qmp.execute("query-status"), { said: "query-status" });
  await assert.rejects(qmp.execute("refused"), (error: ForeshiftError) => error.message.includes("not so"));
  assert.deepEqual(asked, ["qmp_capabilities", "query-status", "refused"]);
  qmp.close();
});

test("a monitor that is silent is given up, and one that has ended refuses what was asked and what will be", async () => {
  const { ours, theirs } = peer(
    ({ execute, id }) => (execute === "qmp_capabilities" ? { id, return: {} } : undefined),
    GREETING,
  );
  const qmp = new Qmp(ours, "test");
  await qmp.open();
  await assert.rejects(qmp.execute("stop", {}, 10), codeIs("COMMAND_FAILED"));
  const waiting = assert.rejects(qmp.execute("cont"), codeIs("UNREACHABLE"));
  theirs.end();
  await waiting;
  await assert.rejects(qmp.execute("cont"), codeIs("UNREACHABLE"));
});

test("an answer of a guest that comes too late is not taken for the next one's", async () => {
  let late: (() => void) | undefined;
  const { ours, theirs } = peer((question) => {
    if (question.execute === "guest-sync") return { return: question.arguments?.id };
    if (question.execute === "guest-ping" && late === undefined) {
      late = () => theirs.write(`${JSON.stringify({ return: "late" })}\n`);
      return undefined;
    }
    return { return: question.execute };
  });
  const agent = new GuestAgent(ours, "test");
  await assert.rejects(agent.execute("guest-ping", {}, 10), codeIs("COMMAND_FAILED"));
  late?.();
  assert.equal(await agent.execute("guest-info"), "guest-info");
  agent.close();
});
