// The lab's swarm file, for each of the processors that it can have: what anyone's file is checked by lets it pass.
import { test } from "node:test";
import { makeKeyPair } from "../../lab/keys.ts";
import { labSpec, overridesFor } from "../../lab/spec.ts";
import { checkSwarmSpec } from "../../models/swarm-check.ts";

test("the lab's own numbers contradict each other for no kind of processor", () => {
  const key = { secret: { path: "swarms/lab/wireguard", version: 1 }, publicKey: makeKeyPair().publicKey };
  for (const processors of ["own", "emulated"] as const)
    checkSwarmSpec(labSpec({ endpoints: 3, ghosts: 1 }, key, overridesFor(processors)));
});
