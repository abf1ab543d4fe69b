/** Limits on how many sessions are under way at once when an endpoint is left. */

export const MOVE_LIMITS = {
  /** Each endpoint that takes sessions over starts their handshakes: so many do it at the same time. */
  targetsAtOnceMax: 4,
  /** A client of an IPsec session is called so often; one that cannot be called by then is handed over when its endpoint leaves. */
  ipsecCallsMax: 2,
} as const;
