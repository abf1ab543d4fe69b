/**
 * A swarm that gets a second static key beside the first: a client with an interface for each moves over under traffic, its session is
 * handed on by the key that it is on, and the first key goes. The endpoints follow the source of truth; nobody tells them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointAgent } from "../../drivers/ports.ts";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { uapiDevice } from "../../drivers/tunnel/wireguard-uapi.ts";
import { refName } from "../../models/keys.ts";
import type { SecretRef, SessionState } from "../../models/session.ts";
import { alone, broughtUp, firstIdentity, switchedOver } from "../../models/static-identities.ts";
import { eventually } from "./eventually.ts";
import { run } from "./namespace.ts";
import { genkey, pings, pubkey, SERVER_ADDRESS, startClient } from "./wireguard-lab.ts";

const ENDPOINTS = ["ep-1", "ep-2"] as const;
const INNER = "10.66.1.1";
const PORT = 41_500;

export interface IdentitySubjects {
  readonly store: PostgresStore;
  readonly agent: (name: string) => EndpointAgent;
  readonly restart: (name: string) => Promise<void>;
  readonly writeKey: (privateKey: string) => Promise<SecretRef>;
  readonly first: { readonly secret: SecretRef; readonly publicKey: string };
  readonly client: { readonly privateKey: string; readonly presharedKey: string };
  readonly heldBy: (endpoint: string) => Promise<SessionState | undefined>;
}

/** The client's session is on ep-1, and is there in the end, on the devices of the second key. */
export function staticIdentityStory(subjectsOf: () => IdentitySubjects): void {
  test("a second static key comes up beside the first, a client moves to it and loses nothing, and the first goes", async () => {
    const { agent, client, first, heldBy, restart, store, writeKey } = subjectsOf();
    const nextKey = genkey();
    const next = { secret: await writeKey(nextKey), publicKey: pubkey(nextKey) };
    const both = broughtUp([firstIdentity(first)], next);
    const state = (identities: typeof both) => store.stateIdentities({ swarm: "lab", identities });
    const answerTo = async (...refs: SecretRef[]) => {
      const wanted = refs.map(refName).sort().join();
      for (const name of ENDPOINTS) {
        const held = async () => [...(await agent(name).status()).identities].sort().join();
        await eventually(`${name} answers to ${wanted}`, async () => (await held()) === wanted, 10_000);
      }
    };
    const goBy = (device: string) =>
      run("ip", "-n", "c", "route", "replace", `${SERVER_ADDRESS}/32`, "dev", device, "src", INNER);
    const onNext = async (name: string) =>
      (await agent(name).identitySessions()).find(({ identity }) => identity === refName(next.secret))?.sessions.length;

    await state(both);
    await answerTo(first.secret, next.secret);
    const old = await eventually("its session", () => heldBy("ep-1"));
    // A second interface with the same key and address: WireGuard takes what comes by either, whichever it sends by.
    const traffic = pings("c", 300, 0.01);
    const more = { interfaceName: "wg-c2", listenPort: PORT, swarmPublicKey: next.publicKey, endpoint: "198.18.1.2:51821" };
    await startClient({ name: "c", innerAddress: INNER, ...client, ...more });
    for (const device of ["wg-c", "wg-c2", "wg-c", "wg-c2"]) {
      goBy(device);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    assert.equal(await traffic, 300);
    assert.equal(await onNext("ep-1"), 1);
    const moved = await eventually("its newer session", async () => {
      const session = await heldBy("ep-1");
      return session !== undefined && session.lastHandshakeMs > old.lastHandshakeMs && session;
    });
    assert.equal(moved.outerAddress, `198.18.9.2:${PORT}`);

    // Whoever takes it over calls it by both keys; it answers to the one that it is on.
    await agent("ep-2").adopt({ operation: "by-both", sessions: [moved] });
    const there = await eventually("it is taken over", () => heldBy("ep-2"), 5_000);
    assert.equal(await onNext("ep-2"), 1);
    assert.equal(await pings("c", 20, 0.02), 20);
    await agent("ep-1").adopt({ operation: "back-by-both", sessions: [there] });
    await eventually("it is back", () => heldBy("ep-1"), 5_000);

    await state(switchedOver(both));
    await restart("ep-1");
    await eventually("up again", async () => (await agent("ep-1").status()).tunnelUp, 10_000);
    const through = pings("c", 150, 0.01);
    await answerTo(first.secret, next.secret);
    await state(alone(switchedOver(both)));
    await answerTo(next.secret);
    assert.equal(await through, 150);
    assert.equal((await uapiDevice("wg-ep-1-2").state()).listenPort, 51_821);
  });
}
