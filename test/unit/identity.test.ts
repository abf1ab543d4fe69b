// Names in certificates: read one way only, and never for somebody else's.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { agentIdentity, parseIdentity, processIdentity } from "../../models/identity.ts";
import { VAULT_PROCESSES } from "../../models/vault-layout.ts";
import { holds } from "../support/property.ts";

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,30}$/);

test("every process and every agent is read back as itself, and no two are the same", (context) => {
  for (const process of VAULT_PROCESSES)
    assert.deepEqual(parseIdentity(processIdentity(process)), { kind: "process", process });
  holds(
    context,
    fc.property(name, name, name, name, (swarm, endpoint, otherSwarm, otherEndpoint) => {
      assert.deepEqual(parseIdentity(agentIdentity(swarm, endpoint)), { kind: "agent", swarm, endpoint });
      const same = swarm === otherSwarm && endpoint === otherEndpoint;
      assert.equal(agentIdentity(swarm, endpoint) === agentIdentity(otherSwarm, otherEndpoint), same);
    }),
    500,
  );
});

test("anything else is nobody", (context) => {
  const near = ["", "/control", "control", "spiffe://foreshift", "spiffe://foreshift/", "spiffe://other/control"];
  const more = [
    "spiffe://foreshift/Control",
    "spiffe://foreshift/control/",
    "spiffe://foreshift/agent/lab",
    "spiffe://foreshift/agent/",
  ];
  const last = [
    "spiffe://foreshift/agent/lab.ep-1.x",
    "spiffe://foreshift/agent/lab.EP",
    "spiffe://foreshift/agent/.ep-1",
    "spiffe://foreshift/root",
  ];
  for (const uri of [...near, ...more, ...last]) assert.equal(parseIdentity(uri), undefined, uri);
  holds(
    context,
    fc.property(fc.string(), (text) => {
      const parsed = parseIdentity(`spiffe://foreshift/${text}`);
      if (parsed === undefined) return;
      const again = parsed.kind === "process" ? processIdentity(parsed.process) : agentIdentity(parsed.swarm, parsed.endpoint);
      assert.equal(again, `spiffe://foreshift/${text}`);
    }),
    500,
  );
});
