/** How large a lab is, what its machines are, and where it lives. */
import type { Paths } from "../setup/paths.ts";
import type { SpecOverrides } from "./spec.ts";
import type { VaultFaults } from "./vault-faults.ts";

export interface LabOptions {
  readonly clients: number;
  /** Sessions in all; more than clients means that clients share namespaces. */
  readonly sessions: number;
  readonly endpoints: number;
  readonly ghosts: number;
  /** Numbered packets a second, for each client and direction. */
  readonly packetsPerSecond: number;
  /** Of each session's download; unless stated as much as a few can have. */
  readonly tcpBytesPerSecond?: number;
  /** Sessions beside these, which join when they are asked to. */
  readonly spareSessions?: number;
  /** Packets a second and direction that a machine takes; as many as it can unless stated. */
  readonly packetAllowancePerSecond?: number;
  /** Folder of the image that the machines boot from, which are virtual then; absent: they are namespaces. */
  readonly image?: string | undefined;
  readonly paths: Paths;
  readonly spec?: SpecOverrides;
  /** Between the lab's processes and their Vault, where it is to fail. */
  readonly vaultFaults?: VaultFaults | undefined;
  readonly onProgress: (text: string) => void;
}
