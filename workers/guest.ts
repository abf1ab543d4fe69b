/**
 * What an endpoint's virtual machine runs: the agent, with the host's sockets at hand. They come over the machine's serial line, so the
 * agent needs no network to reach anybody and the host none to reach it.
 */
import { mkdir, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { openCharacterDevice } from "../drivers/qemu/character-device.ts";
import { GUEST_LINE, GUEST_SERVICES, guestSocket } from "../drivers/qemu/guest-layout.ts";
import { SerialStreams } from "../drivers/qemu/serial-streams.ts";

const [configFile] = process.argv.slice(2);
const line = await openCharacterDevice(GUEST_LINE);
const streams = new SerialStreams({
  line,
  side: "guest",
  accept: (name) => (name === "agent" ? connect({ path: guestSocket("agent"), allowHalfOpen: true }) : undefined),
});
for (const name of GUEST_SERVICES) {
  const path = guestSocket(name);
  await mkdir(join(path, ".."), { recursive: true, mode: 0o700 });
  await rm(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => streams.connect(name, socket));
  await new Promise<void>((resolve) => server.listen(path, resolve));
}
process.argv[2] = configFile ?? "";
await import("./agent.ts");
