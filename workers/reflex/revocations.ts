/**
 * Which endpoints have heard of the latest revocation. One that was away when it was made would let the revoked client in when it comes
 * back, so it comes back only once it knows what the others know.
 */
export class Revocations {
  /** Revision of the newest revocation that each endpoint's agent has told of. */
  readonly #known = new Map<string, number>();

  heard(endpoint: string, revision: number): void {
    this.#known.set(endpoint, revision);
  }

  /** Whether the endpoint knows every revocation that any of these members knows. */
  isUpToDate(endpoint: string, members: Iterable<string>): boolean {
    const own = this.#known.get(endpoint) ?? 0;
    for (const member of members) if ((this.#known.get(member) ?? 0) > own) return false;
    return true;
  }
}
