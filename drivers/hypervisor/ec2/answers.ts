/** Whether somebody takes connections at an address: a machine whose agent listens has booted, and its tunnel is up. */
import { connect } from "node:net";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import { addressOf } from "../../identity/dial.ts";

/** `where` as host:port. */
export function answers(where: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(addressOf(where));
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(CLOUD_LIMITS.connectTimeoutMs, () => end(false));
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}
