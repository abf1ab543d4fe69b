/** What the schema of a steering state cannot say: names that must be known and must not be doubled, addresses that must be addresses. */
import { isIPv4 } from "node:net";
import { ForeshiftError } from "../../models/errors.ts";
import { PublicKey } from "../../models/session.ts";
import type { SteeringState } from "../../models/steering.ts";
import { canonicalAddress, clientKey } from "./dataplane.ts";

export function checkSteering(state: SteeringState): void {
  if (!PublicKey.safeParse(state.swarmPublicKey).success) {
    throw new ForeshiftError("INVALID_FIELD", {
      field: "swarmPublicKey",
      value: state.swarmPublicKey,
      detail: "expected 32 bytes in base64",
    });
  }
  checkMembers(state);
  const members = new Set(state.members.map((member) => member.endpoint));
  const clients = new Set<string>();
  state.pins.forEach((pin, at) => {
    const key = clientKey(pin.client);
    if (key === undefined) throw invalid(`pins.${at}.client`, pin.client, "expected an address and a port from 1 to 65535");
    if (!members.has(pin.endpoint))
      throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: `pins.${at}.endpoint`, value: pin.endpoint });
    unique(clients, `pins.${at}.client`, key.join(" "), pin.client);
  });
  const ipsecClients = new Set<string>();
  state.ipsecPins?.forEach(({ client, endpoint }, at) => {
    if (!members.has(endpoint))
      throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: `ipsecPins.${at}.endpoint`, value: endpoint });
    unique(ipsecClients, `ipsecPins.${at}.client`, client, client);
  });
  const inner = new Set<string>();
  state.returnRoutes.forEach((route, at) => {
    const address = canonicalAddress(route.innerAddress);
    const field = `returnRoutes.${at}`;
    if (address === undefined) throw invalid(`${field}.innerAddress`, route.innerAddress, "expected an IPv4 or IPv6 address");
    if (!members.has(route.endpoint))
      throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: `${field}.endpoint`, value: route.endpoint });
    unique(inner, `${field}.innerAddress`, address, route.innerAddress);
  });
}

function checkMembers(state: SteeringState): void {
  const endpoints = new Set<string>();
  const probes = new Set<string>();
  const links = new Set<string>();
  state.members.forEach(({ endpoint, link }, at) => {
    const field = `members.${at}`;
    unique(endpoints, `${field}.endpoint`, endpoint, endpoint);
    if (canonicalAddress(link.probeAddress) === undefined) {
      throw invalid(`${field}.link.probeAddress`, link.probeAddress, "expected an IPv4 or IPv6 address");
    }
    if (!isIPv4(link.probeInnerAddress)) {
      throw invalid(`${field}.link.probeInnerAddress`, link.probeInnerAddress, "expected an IPv4 address");
    }
    unique(probes, `${field}.link.probeInnerAddress`, link.probeInnerAddress, link.probeInnerAddress);
    unique(links, `${field}.link.mac`, `${link.device} ${link.mac}`, link.mac);
    for (const [name, device] of [
      ["device", link.device],
      ["returnDevice", link.returnDevice],
    ] as const) {
      if (!/^[^\s"/]{1,15}$/.test(device))
        throw invalid(`${field}.link.${name}`, device, "expected the name of a network device");
    }
  });
}

function unique(seen: Set<string>, field: string, key: string, value: string): void {
  if (seen.has(key)) throw new ForeshiftError("DUPLICATE_NAME", { field, value });
  seen.add(key);
}

function invalid(field: string, value: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field, value, detail });
}
