/**
 * Tells the kernel how often to speak of single SAs: messages XFRM_MSG_NEWAE with thresholds alone (linux/xfrm.h, net/xfrm/xfrm_user.c). The
 * sysctls that SAs begin with know no less than a tenth of a second, and neither `ip xfrm` nor strongSwan sets anything else. Node
 * has no netlink sockets, so socat sends them: `socat -u - SOCKET-SENDTO:16:3:6:x00000000000000000000`.
 */
import { isIPv4 } from "node:net";
import { ForeshiftError } from "../../models/errors.ts";
import type { XfrmState } from "./xfrm-state.ts";

/**
 * An event comes after so many packets of an SA, and so many of the kernel's ticks after the last event when one passed at all. The timer is
 * begun by an event: an SA is given its pace when it has spoken first, not before.
 */
export interface EventPace {
  readonly packets: number;
  /** Unlike the sysctl's tenths of a second these are taken as they are: 1 to 10 ms each, 4 ms in Debian's kernels. */
  readonly ticks: number;
}

const [NEW_AEVENT, REQUEST_REPLACE] = [0x1e, 0x101];
const [REPLAY_THRESHOLD, TIMER_THRESHOLD] = [11, 12];
const [AF_INET, IPPROTO_ESP] = [2, 50];
const MESSAGE_BYTES = 16 + 48 + 8 + 8;

/** One message for each SA, one after the other. The kernel answers each with an event, which has the counters. IPv4; else INVALID_FIELD. */
export function eventPaceMessages(states: readonly Pick<XfrmState, "destination" | "spi">[], pace: EventPace): Buffer {
  return Buffer.concat(states.map((state) => message(state, pace)));
}

function message({ destination, spi }: Pick<XfrmState, "destination" | "spi">, { packets, ticks }: EventPace): Buffer {
  if (!isIPv4(destination))
    throw new ForeshiftError("INVALID_FIELD", { field: "SA", value: destination, detail: "an IPv4 address was expected" });
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  bytes.writeUInt32LE(MESSAGE_BYTES, 0);
  bytes.writeUInt16LE(NEW_AEVENT, 4);
  bytes.writeUInt16LE(REQUEST_REPLACE, 6);
  bytes.set(destination.split(".").map(Number), 16);
  bytes.writeUInt32BE(spi, 32);
  bytes.writeUInt16LE(AF_INET, 36);
  bytes.writeUInt8(IPPROTO_ESP, 38);
  attribute(bytes, 64, REPLAY_THRESHOLD, packets);
  attribute(bytes, 72, TIMER_THRESHOLD, ticks);
  return bytes;
}

function attribute(bytes: Buffer, at: number, type: number, value: number): void {
  bytes.writeUInt16LE(8, at);
  bytes.writeUInt16LE(type, at + 2);
  bytes.writeUInt32LE(value, at + 4);
}
