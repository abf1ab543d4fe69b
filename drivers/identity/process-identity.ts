/**
 * Who this process is to the others: a key made here, a certificate for it that is replaced at two thirds of its life, and the word on who
 * is revoked. Connections made with the certificate before go on; what is new uses the new one.
 */
import { X509Certificate } from "node:crypto";
import { watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocket } from "node:tls";
import { z } from "zod";
import type { StaleCrlPolicy } from "../../models/crl.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { type Identity, parseIdentity } from "../../models/identity.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { writePrivately } from "../private-file.ts";
import type { IssuedCertificate, Pki } from "../vault/pki.ts";
import { certificatesOf, uriOf } from "./authority.ts";
import { CrlKeeper, type CrlSource } from "./crl-keeper.ts";
import type { Note } from "./note.ts";

export interface ProcessIdentityOptions {
  /** `spiffe://foreshift/…`, of models/identity.ts. */
  readonly uri: string;
  /** Signs for this process; undefined: the certificate in `dir` is somebody else's to renew. */
  readonly pki: Pick<Pki, "issue"> | undefined;
  /** Private folder: key and certificate in `identity.json`, the revocation list in `crl.der`, mode 0600 both. */
  readonly dir: string;
  readonly certificateTtlMs: number;
  /** Of the handshakes of its connections, where it is stated. */
  readonly handshakeTimeoutMs?: number | undefined;
  readonly crlSources: (identity: ProcessIdentity) => readonly CrlSource[];
  readonly staleCrl: StaleCrlPolicy;
  readonly confirmCrlWithinMs?: number | undefined;
  readonly note: Note;
}

const text = z.string().min(1);
const Stored = z.strictObject({
  privateKey: text,
  certificate: text,
  chain: z.string(),
  root: text,
  serial: text,
  issuedAtMs: z.number(),
  notAfterMs: z.number(),
}) satisfies z.ZodType<IssuedCertificate>;

export type Admission = { readonly peer: Identity; readonly serial: string } | { readonly refused: string };

export class ProcessIdentity {
  readonly uri: string;
  readonly crl: CrlKeeper;
  readonly #options: ProcessIdentityOptions;
  readonly #onRenewed = new Set<() => void>();
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #held: IssuedCertificate | undefined;
  #context: SecureContext | undefined;
  #renewing: Promise<IssuedCertificate> | undefined;

  constructor(options: ProcessIdentityOptions) {
    this.uri = options.uri;
    this.#options = options;
    this.crl = new CrlKeeper({
      sources: options.crlSources(this),
      authorities: () => certificatesOf(`${this.certificate.chain}\n${this.certificate.root}`),
      file: join(options.dir, "crl.der"),
      policy: options.staleCrl,
      confirmWithinMs: options.confirmCrlWithinMs,
      note: options.note,
    });
  }

  get handshakeTimeoutMs(): number | undefined {
    return this.#options.handshakeTimeoutMs;
  }

  /** NOT_READY before the start. */
  get certificate(): IssuedCertificate {
    if (this.#held === undefined)
      throw new ForeshiftError("NOT_READY", { value: this.uri, detail: "it has no certificate yet" });
    return this.#held;
  }

  /** Takes up the certificate of the life before if it is good, else asks for one until it has it. Then keeps it fresh. */
  async start(): Promise<void> {
    const { signal } = this.#stop;
    await this.#load();
    await this.#getFirst();
    await this.crl.load();
    const looked = this.crl.firstLook();
    this.#loops.push(this.crl.follow(signal));
    this.#loops.push(this.#keepFresh());
    if (this.#options.pki === undefined) this.#followOwner();
    else this.crl.onNewer(() => this.#replaceIfRevoked());
    if (this.crl.held === undefined) await looked;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops);
  }

  /** A new key and a new certificate now; callers at the same time get the same one. Connections there are go on. */
  renew(): Promise<IssuedCertificate> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  /** Unless it has been replaced already; answers the serial of the one held then. */
  async renewAfter(serial: string): Promise<string> {
    const held = this.certificate.serial;
    return held === serial ? (await this.renew()).serial : held;
  }

  /** Called after each renewal; the answer takes the wish back. */
  onRenewed(callback: () => void): () => void {
    this.#onRenewed.add(callback);
    return () => this.#onRenewed.delete(callback);
  }

  /** For `tls.createServer` and `setSecureContext`. */
  secureOptions(): SecureContextOptions {
    const { privateKey, certificate, chain, root } = this.certificate;
    return { key: privateKey, cert: `${certificate}\n${chain}`, ca: root, minVersion: "TLSv1.3" };
  }

  secureContext(): SecureContext {
    this.#context ??= createSecureContext(this.secureOptions());
    return this.#context;
  }

  /**
   * Who is at the other end of a connection whose certificate the authorities vouch for. From then on the connection ends when that
   * certificate is revoked. `checked` false leaves the list out: for fetching the list itself.
   */
  admit(socket: TLSSocket, accepts: (uri: string, peer: Identity) => boolean, checked = true): Admission {
    const certificate = socket.getPeerX509Certificate();
    if (!socket.authorized || certificate === undefined) return { refused: "it has no certificate of our authorities" };
    const uri = uriOf(certificate) ?? "";
    const peer = parseIdentity(uri);
    if (peer === undefined) return { refused: "its certificate names nobody we know" };
    if (!accepts(uri, peer)) return { refused: `${uri} has no business here` };
    const serial = certificate.serialNumber;
    if (!checked) return { peer, serial };
    const verdict = this.crl.standing(serial, false);
    if (!verdict.use) return { refused: `${uri}: ${verdict.why}` };
    const letGo = this.crl.watch({ serial, end: () => socket.destroy() });
    socket.once("close", letGo);
    return { peer, serial };
  }

  async #load(): Promise<void> {
    const file = this.#file;
    try {
      const { mode } = await stat(file);
      if ((mode & 0o077) !== 0) throw new Error("others may read it");
      const stored = Stored.parse(JSON.parse(await readFile(file, "utf8")));
      if (uriOf(new X509Certificate(stored.certificate)) !== this.uri) throw new Error("it is somebody else's");
      if (stored.notAfterMs <= Date.now()) throw new Error("it has ended");
      if (stored.serial !== this.#held?.serial) this.#take(stored);
    } catch (thrown) {
      if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return;
      // The parser's message would quote the key.
      const detail =
        thrown instanceof z.ZodError || thrown instanceof SyntaxError ? "it is not an identity" : messageOf(thrown);
      this.#options.note("warn", { event: "identity-not-taken-up", file, detail });
    }
  }

  async #getFirst(): Promise<void> {
    const { renewRetryFirstMs, renewRetryLongestMs } = IDENTITY_LIMITS;
    const { pki, note, dir } = this.#options;
    if (pki === undefined && this.#held === undefined)
      throw new ForeshiftError("UNAUTHORISED", { field: this.uri, detail: `there is no valid certificate in ${dir}` });
    for (
      let pauseMs: number = renewRetryFirstMs;
      this.#held === undefined;
      pauseMs = Math.min(2 * pauseMs, renewRetryLongestMs)
    ) {
      this.#stop.signal.throwIfAborted();
      try {
        await this.renew();
      } catch (thrown) {
        note("warn", { event: "certificate-not-issued", uri: this.uri, detail: messageOf(thrown) });
        await delay(pauseMs, undefined, { signal: this.#stop.signal });
      }
    }
  }

  async #keepFresh(): Promise<void> {
    const { signal } = this.#stop;
    const { renewRetryLongestMs } = IDENTITY_LIMITS;
    while (!signal.aborted) {
      const waitMs = dueAtMs(this.certificate) - Date.now();
      // A timer of weeks overflows, and a clock may be set meanwhile.
      await delay(Math.min(Math.max(waitMs, 0), renewRetryLongestMs), undefined, { signal }).catch(() => undefined);
      if (signal.aborted || dueAtMs(this.certificate) > Date.now()) continue;
      try {
        if (this.#options.pki === undefined) await this.#load();
        else await this.renew();
      } catch (thrown) {
        const endsInMs = this.certificate.notAfterMs - Date.now();
        this.#options.note("warn", { event: "certificate-not-renewed", uri: this.uri, endsInMs, detail: messageOf(thrown) });
      }
      if (dueAtMs(this.certificate) <= Date.now())
        await delay(IDENTITY_LIMITS.renewRetryFirstMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Somebody else's: what they replace is taken up here as they do. */
  #followOwner(): void {
    const { dir, note } = this.#options;
    const reload = () => {
      this.#load()
        .then(() => this.crl.load())
        .catch((thrown: unknown) =>
          note("warn", { event: "identity-not-taken-up", file: this.#file, detail: messageOf(thrown) }),
        );
    };
    const watcher = watch(dir, { persistent: false, signal: this.#stop.signal }, reload);
    watcher.on("error", (thrown) => note("warn", { event: "identity-not-followed", dir, detail: messageOf(thrown) }));
  }

  /** A copy of it was taken out of use, not this process: whether it may have another is Vault's to say. */
  #replaceIfRevoked(): void {
    const { serial } = this.certificate;
    if (this.crl.held?.crl.revoked.has(serial) !== true) return;
    this.renewAfter(serial).catch((thrown: unknown) =>
      this.#options.note("warn", { event: "revoked-certificate-not-replaced", serial, detail: messageOf(thrown) }),
    );
  }

  async #renew(): Promise<IssuedCertificate> {
    const { pki, certificateTtlMs, note } = this.#options;
    if (pki === undefined) throw new ForeshiftError("NOT_PERMITTED", { detail: "renew a certificate that is somebody else's" });
    const issued = await pki.issue({ identity: this.uri, ttlMs: certificateTtlMs });
    const before = this.#held;
    // On the disk first: a process that dies now starts with it.
    await writePrivately(this.#file, JSON.stringify(issued));
    this.#take(issued);
    note("info", {
      event: "certificate-renewed",
      uri: this.uri,
      serial: issued.serial,
      ...(before === undefined ? {} : { before: before.serial }),
      endsAt: new Date(issued.notAfterMs).toISOString(),
    });
    return issued;
  }

  #take(issued: IssuedCertificate): void {
    this.#held = issued;
    this.#context = undefined;
    for (const callback of this.#onRenewed) callback();
  }

  get #file(): string {
    return join(this.#options.dir, "identity.json");
  }
}

/** Unix milliseconds at which two thirds of its life have passed. */
function dueAtMs({ issuedAtMs, notAfterMs }: IssuedCertificate): number {
  return issuedAtMs + (notAfterMs - issuedAtMs) * IDENTITY_LIMITS.renewAtShare;
}
