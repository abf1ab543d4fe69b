/** Which clients' new IKE SAs go where while their sessions are moved; a state without any says nothing of them. */
import type { IpsecPin, SteeringState } from "../models/steering.ts";

/** The very same state where nothing changes. */
export function withIpsecPins(state: SteeringState, added: readonly IpsecPin[]): SteeringState {
  const held = state.ipsecPins ?? [];
  const isHeld = ({ client, endpoint, from }: IpsecPin) =>
    held.some((pin) => pin.client === client && pin.endpoint === endpoint && pin.from === from);
  if (added.every(isHeld)) return state;
  const clients = new Set(added.map(({ client }) => client));
  return { ...state, ipsecPins: [...held.filter(({ client }) => !clients.has(client)), ...added] };
}

/** The same. */
export function withoutIpsecPins(state: SteeringState, isOver: (pin: IpsecPin) => boolean): SteeringState {
  const { ipsecPins = [], ...rest } = state;
  const kept = ipsecPins.filter((pin) => !isOver(pin));
  if (kept.length === ipsecPins.length) return state;
  return kept.length === 0 ? rest : { ...rest, ipsecPins: kept };
}
