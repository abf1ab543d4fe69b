/**
 * What Foreshift asks of a WireGuard device, whichever implementation runs it.
 */

/** A peer as the device holds it. */
export interface DevicePeer {
  readonly publicKey: string;
  /** `address:port` it was last heard from, or was set to; undefined when neither. */
  readonly endpoint: string | undefined;
  /** With prefix length, as configured. */
  readonly allowedIps: readonly string[];
  /** Unix ms of the last completed handshake; 0: none. */
  readonly lastHandshakeMs: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly keepaliveS: number;
}

export interface DeviceState {
  readonly listenPort: number;
  readonly peers: readonly DevicePeer[];
}

/** One change of one peer; the changes of a list take effect in their order. */
export type PeerChange =
  /** Forgets the peer with its session and its address. */
  | { readonly kind: "remove"; readonly publicKey: string }
  /** Adds the peer or sets these of its properties; a session it has is kept. */
  | {
      readonly kind: "configure";
      readonly publicKey: string;
      readonly innerAddresses: readonly string[];
      readonly presharedKey?: string | undefined;
      readonly endpoint?: string | undefined;
      readonly keepaliveS?: number | undefined;
    }
  /**
   * Sets the preshared key (base64; undefined: none) of a peer that is there, and nothing else: its session and its addresses are not
   * touched for a moment. It is used from the next handshake on.
   */
  | { readonly kind: "preshared"; readonly publicKey: string; readonly presharedKey: string | undefined }
  /** Of a peer that is there; one that is not is left so. */
  | { readonly kind: "keepalive"; readonly publicKey: string; readonly keepaliveS: number };

export interface WireGuardDevice {
  readonly device: string;
  /** UNREACHABLE when the device is not there or does not answer. */
  state(): Promise<DeviceState>;
  apply(changes: readonly PeerChange[]): Promise<void>;
  /** Sets key and port where they differ; what is right already is not touched. The key never leaves the process by an argument. */
  setIdentity(identity: { privateKey: string; listenPort: number }): Promise<void>;
}

/** WireGuard's word for no preshared key. */
export const NO_PRESHARED_KEY = Buffer.alloc(32).toString("base64");

/** `10.66.1.1` -> `10.66.1.1/32`, `fd00::1` -> `fd00::1/128`; a prefix that is there stays. */
export function hostRoute(address: string): string {
  if (address.includes("/")) return address;
  return `${address}/${address.includes(":") ? 128 : 32}`;
}
