/** The text that nft is given, and what it is compared with. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { heldAfter, NOTHING_HELD, parseElements, parseTable, transaction } from "../../drivers/balancer/nftables-diff.ts";
import { returnRuleset } from "../../drivers/balancer/nftables-return-ruleset.ts";
import { type SteeringInput, steeringRuleset } from "../../drivers/balancer/nftables-ruleset.ts";

const BASE: SteeringInput = {
  owner: "lab",
  vip: { v4: "198.19.0.1", v6: "fd00:19::1", port: 51_820 },
  edgeDevice: "edge",
  edgeDeviceIndex: 2,
  spread: "hash",
  buckets: [1, 2, 1, 2],
  slots: [1, 2].map((mark) => ({ mark, device: `ep-${mark}`, mac: `02:00:00:00:00:0${mark}`, deviceIndex: 10 + mark })),
  fenced: new Set(),
  pins: [],
};

test("nothing is sent when nothing changes", () => {
  const ruleset = steeringRuleset(BASE);
  assert.equal(transaction(heldAfter(ruleset), steeringRuleset({ ...BASE, buckets: [...BASE.buckets] })), "");
});

test("an ejection sends only the elements that change", () => {
  const held = heldAfter(steeringRuleset(BASE));
  const text = transaction(held, steeringRuleset({ ...BASE, fenced: new Set([1]), pins: [["198.18.101.2", 5, 2]] }));
  assert.deepEqual(text.trim().split("\n"), [
    "delete element netdev foreshift takers { 1 }",
    "add element netdev foreshift fences { 1 : drop }",
    "add element netdev foreshift pins4 { 198.18.101.2 . 5 : 2 }",
  ]);
});

test("no transaction ever flushes or deletes what the packet path has learned", () => {
  const inputs = fc.record({
    marks: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 6 }),
    fenced: fc.array(fc.integer({ min: 1, max: 6 })),
    rotate: fc.boolean(),
    present: fc.boolean(),
  });
  const toInput = ({
    marks,
    fenced,
    rotate,
    present,
  }: {
    marks: number[];
    fenced: number[];
    rotate: boolean;
    present: boolean;
  }): SteeringInput => ({
    ...BASE,
    spread: rotate ? "rotate" : "hash",
    buckets: marks.length === 0 ? [] : [0, 1, 2, 3].map((at) => marks[at % marks.length] ?? 0),
    slots: marks.map((mark) => ({
      mark,
      device: `ep-${mark}`,
      mac: "02:00:00:00:00:01",
      deviceIndex: present ? mark : undefined,
    })),
    fenced: new Set(fenced.filter((mark) => marks.includes(mark))),
  });
  fc.assert(
    fc.property(inputs, inputs, (before, after) => {
      const text = transaction(heldAfter(steeringRuleset(toInput(before))), steeringRuleset(toInput(after)));
      assert.doesNotMatch(text, /(flush|delete) (map|table|element) netdev foreshift (sessions|clients4|clients6)\b/);
      assert.doesNotMatch(text, /flush (map|table|ruleset)/);
    }),
  );
});

test("the packet path from clients writes nothing: only chains on members' devices learn", () => {
  for (const chain of steeringRuleset(BASE).chains) {
    const learns = chain.rules.some((rule) => /\b(update|add|delete) @/.test(rule));
    assert.equal(learns, chain.name.startsWith("learn_"), chain.name);
  }
});

test("learning from a member goes behind its fence", () => {
  for (const chain of steeringRuleset(BASE).chains.filter(({ name }) => name.startsWith("learn_"))) {
    const fence = chain.rules.findIndex((rule) => rule.includes("@fences"));
    const learning = chain.rules.findIndex((rule) => rule.includes("update @"));
    assert.ok(fence >= 0 && fence < learning);
  }
  const slots = BASE.slots.map((slot) => ({ ...slot, probeInnerAddress: `10.67.0.${slot.mark}` }));
  const back = returnRuleset({ owner: "lab", serverDevice: "server", serverDeviceIndex: 1, slots, fenced: new Set([1]) });
  for (const chain of back.chains.filter(({ name }) => name.startsWith("from_"))) {
    const at = (part: string) => chain.rules.findIndex((rule) => rule.includes(part));
    assert.ok(at("10.67.0.") < at("@fences") && at("@fences") < at("@routes4"), "probes pass the fence, clients do not");
  }
});

test("members on one device are told apart by their MAC addresses", () => {
  const shared = BASE.slots.map((slot) => ({ ...slot, device: "lan", deviceIndex: 9 }));
  const chains = steeringRuleset({ ...BASE, slots: shared }).chains.filter(({ name }) => name.startsWith("learn_"));
  assert.equal(chains.length, 1);
  for (const rule of chains[0]?.rules ?? []) assert.match(rule, /^ether saddr 02:00:00:00:00:0[12] /);
});

test("a device that came back under its old name is written anew", () => {
  const again = { ...BASE, slots: BASE.slots.map((slot) => (slot.mark === 1 ? { ...slot, deviceIndex: 99 } : slot)) };
  const text = transaction(heldAfter(steeringRuleset(BASE)), steeringRuleset(again));
  assert.match(text, /flush chain netdev foreshift member_1\n/);
  assert.doesNotMatch(text, /member_2/);
});

test("what nft prints is read back as what was sent", () => {
  const json = JSON.stringify({
    nftables: [
      { metainfo: {} },
      {
        map: {
          elem: [
            [{ concat: ["198.18.101.2", 5] }, 2],
            [1, { goto: { target: "member_1" } }],
            [2, { drop: null }],
            [{ elem: { val: "10.66.1.1", expires: 3 } }, 4],
          ],
        },
      },
    ],
  });
  assert.deepEqual(
    [...parseElements(json)],
    [
      ["198.18.101.2 . 5", "2"],
      ["1", "goto member_1"],
      ["2", "drop"],
      ["10.66.1.1", "4"],
    ],
  );
  const table =
    'table netdev foreshift {\n\tcounter c {\n\t\tpackets 0 bytes 0\n\t}\n\n\tchain owner {\n\t\treturn comment "owner:lab"\n\t}\n\n\tchain x {\n\t\tdrop comment "fs:abc.1"\n\t}\n\n\tchain y {\n\t\tdrop\n\t}\n}\n';
  const held = parseTable(table, new Map());
  assert.equal(held.owner, "lab");
  assert.deepEqual(
    [...held.chains],
    [
      ["x", "abc.1"],
      ["y", ""],
    ],
  );
  assert.ok(transaction(NOTHING_HELD, steeringRuleset(BASE)).startsWith("add table netdev foreshift\n"));
});
