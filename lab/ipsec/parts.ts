/** What `bench ipsec` can try in guests, each by itself. */
export const GUEST_PARTS = ["crash", "nat-t", "esn", "move", "spread", "load", "stock"] as const;
export type GuestPart = (typeof GUEST_PARTS)[number];
/** `reader` needs no guest. */
export const IPSEC_PARTS = [...GUEST_PARTS, "reader"] as const;
export type IpsecPart = (typeof IPSEC_PARTS)[number];
