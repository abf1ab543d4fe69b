/** Where things lie in a guest, as its host and its own programs both know them. */

/** The serial line between the two. */
export const GUEST_LINE = "/dev/virtio-ports/foreshift.line";
/** Files of the configuration drive. */
export const GUEST_CONFIG_DIR = "/run/config";
export const GUEST_STATE_DIR = "/run/foreshift";
/** What of the host's a guest reaches. */
export const GUEST_SERVICES = ["reflex", "collector", "vault"] as const;
/** The program that an endpoint runs. */
export const GUEST_PROGRAM = "/opt/foreshift/workers/guest.js";

export function guestSocket(name: (typeof GUEST_SERVICES)[number] | "agent"): string {
  return `${GUEST_STATE_DIR}/${name}.sock`;
}
