/** What must hold of a world when a run has ended. */
import assert from "node:assert/strict";
import type { World } from "./world.ts";

/** These serve with full weight, nobody else is a member or runs, nothing of a move is left, and every client lives on one of them. */
export function assertServing(world: World, members: readonly string[]): void {
  const held = world.steering?.members ?? [];
  assert.deepEqual(
    held.map(({ endpoint, weight, draining }) => `${endpoint} ${weight} ${draining}`).sort(),
    members.map((name) => `${name} 100 false`),
  );
  assert.deepEqual(world.steering?.pins, []);
  assert.deepEqual(world.steering?.ipsecPins, undefined);
  assert.deepEqual(world.steering?.returnRoutes, []);
  const { dropped, runningMachines } = world.score();
  assert.deepEqual(dropped, []);
  assert.deepEqual([...runningMachines].sort(), [...members]);
  for (const { endpoint = "nowhere", publicKey } of world.clients) {
    assert.ok(members.includes(endpoint) && world.machine(endpoint).keys.has(publicKey), `${publicKey} is served`);
  }
  const { clients, dropped: cutOff, strayed } = world.ipsec;
  assert.deepEqual([cutOff, strayed], [[], []]);
  for (const { client, sendsBy } of clients) assert.ok(members.includes(sendsBy.endpoint), `${client} is served`);
}
