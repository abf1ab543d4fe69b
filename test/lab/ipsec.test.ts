// An IPsec session on a real wire: a stock client in a virtual machine, two gateways in another, the balancer's rules between them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { playInGuests } from "../../bench/ipsec-guests.ts";
import { whyNoMachines } from "../support/machines.ts";

const skip = await whyNoMachines();

test("a session goes on after its gateway crashed, and after it was moved: no number twice, none taken back", {
  skip,
}, async (t) => {
  const figures = await playInGuests({ crashes: 1, moves: 1, stock: false, onProgress: (text) => t.diagnostic(text) });
  const { crash, planned, counters } = figures;
  assert.equal(crash.recovered, 1, "packets pass again after the crash");
  assert.equal(crash.newIkeSas, 1, "the shadow has an IKE SA of its own with the client");
  assert.equal(planned.packetsLost, 0);
  assert.ok(counters.packets > 0);
  assert.ok(counters.replayed > 0, "packets of the client were sent once more");
  assert.deepEqual([counters.reused, counters.notGrowing], [0, 0]);
  assert.deepEqual([counters.replayAccepted, counters.replayable], [0, 0]);
  assert.equal(counters.refusedByClient.failed, 0);
});
