/**
 * Every error Foreshift reports, in one table: a stable code, whether trying again can help, and what the person who reads it
 * should do. Codes are wire names (they appear in HTTP answers, audit rows and Temporal failures): never renamed.
 */

interface ErrorEntry {
  /** What happened and what it means, one sentence. `{field}`, `{value}` and `{detail}` are filled in. */
  readonly message: string;
  /** What to do about it; placeholders as in the message. */
  readonly remedy: string;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  /** Status of an HTTP answer that carries this error. */
  readonly httpStatus: number;
}

export const ERRORS = {
  INVALID_FIELD: {
    message: "{field} is not valid: got {value}; {detail}",
    remedy: "Correct the field and apply again; nothing was changed.",
    retryable: false,
    httpStatus: 400,
  },
  UNKNOWN_ENDPOINT: {
    message: "There is no endpoint named {value}",
    remedy: "List the endpoints with `foreshift swarm get` and use one of those names.",
    retryable: false,
    httpStatus: 404,
  },
  UNKNOWN_SWARM: {
    message: "There is no swarm named {value}",
    remedy: "List the swarms with `foreshift swarm list`, or apply a swarm file first.",
    retryable: false,
    httpStatus: 404,
  },
  DUPLICATE_NAME: {
    message: "{field} names {value} twice",
    remedy: "Give each entry its own name and apply again; nothing was changed.",
    retryable: false,
    httpStatus: 400,
  },
  STALE_EPOCH: {
    message: "Epoch {value} is not newer than what the balancer holds: {detail}",
    remedy: "Another controller has acted since. Read the current state and decide again.",
    retryable: true,
    httpStatus: 409,
  },
  VIP_IN_USE: {
    message: "The address {value} ({field}) is in use already: {detail}",
    remedy: "Choose a virtual address that no other host or swarm holds.",
    retryable: false,
    httpStatus: 409,
  },
  CLOCK_BEHIND: {
    message: "The clock of endpoint {value} is behind: {detail}",
    remedy: "Synchronise its clock (chrony, systemd-timesyncd); handshakes from it would be taken for replays.",
    retryable: true,
    httpStatus: 409,
  },
  AUTOMATION_STOPPED: {
    message: "Automation is stopped for {value}, so nothing was done",
    remedy: "Run `foreshift resume` when it is safe to act again.",
    retryable: false,
    httpStatus: 409,
  },
  BUDGET_EXCEEDED: {
    message: "The disruption budget forbids this for {value}: {detail}",
    remedy: "Wait until the window has passed, or raise the budget in the swarm file.",
    retryable: false,
    httpStatus: 409,
  },
  CAPACITY_EXCEEDED: {
    message: "The other members cannot do without {value}: {detail}",
    remedy: "Use `foreshift endpoint replace`, or raise endpoints.count or endpoints.capacitySessions in the swarm file first.",
    retryable: false,
    httpStatus: 409,
  },
  ALREADY_UNDER_WAY: {
    message: "Endpoint {value} is being handled already: {detail}",
    remedy: "Watch the run that handles it in the Temporal Web UI.",
    retryable: false,
    httpStatus: 409,
  },
  NOT_READY: {
    message: "{value} is not ready: {detail}",
    remedy: "It is tried again; if it lasts, look at the logs of the process named here.",
    retryable: true,
    httpStatus: 503,
  },
  VERIFY_FAILED: {
    message: "The move could not be verified for {value}: {detail}",
    remedy: "The sessions were put back. Check the replacement's path to its clients.",
    retryable: false,
    httpStatus: 409,
  },
  ENDPOINT_LOST: {
    message: "Endpoint {value} died while sessions moved: {detail}",
    remedy: "Nothing: the reflex has given its sessions to their shadows, and the run finishes without it.",
    retryable: false,
    httpStatus: 409,
  },
  NO_REPLACEMENT: {
    message: "No machine could take over from {value}: {detail}",
    remedy: "Add ghosts or capacity to the swarm file.",
    retryable: true,
    httpStatus: 503,
  },
  UNREACHABLE: {
    message: "{field} at {value} does not answer: {detail}",
    remedy: "Start it, or correct its address. `foreshift doctor` shows what is found and what is missing.",
    retryable: true,
    httpStatus: 503,
  },
  SOCKET_IN_USE: {
    message: "Another process listens on {value} already",
    remedy: "Stop it first, or use a folder of your own.",
    retryable: false,
    httpStatus: 409,
  },
  UNAUTHORISED: {
    message: "{field} refused the credentials: {detail}",
    remedy: "Check the token or password it was given.",
    retryable: false,
    httpStatus: 403,
  },
  MISSING_TOOL: {
    message: "{value} is missing: {detail}",
    remedy: "Run `foreshift doctor`; it names the one command that installs what is missing.",
    retryable: false,
    httpStatus: 500,
  },
  NOT_PERMITTED: {
    message: "This user may not {detail}",
    remedy: "Run as root, or allow user namespaces. `foreshift doctor` says which of them is possible here.",
    retryable: false,
    httpStatus: 403,
  },
  COMMAND_FAILED: {
    message: "{field} failed: {detail}",
    remedy: "It is tried again; if it lasts, run the command by hand in the same place.",
    retryable: true,
    httpStatus: 500,
  },
  DISK: {
    message: "Cannot write {value}: {detail}",
    remedy: "Free some space or correct the permissions; what was there before is intact.",
    retryable: true,
    httpStatus: 507,
  },
  UNKNOWN_MODEL: {
    message: "There is no model {value} of {detail}",
    remedy: "List the models with `foreshift models list` and use one of those ids.",
    retryable: false,
    httpStatus: 404,
  },
  NO_EARLIER_MODEL: {
    message: "There is no model of {value} to go back to",
    remedy: "Promote another one: `foreshift models list`, then `foreshift models promote ID`.",
    retryable: false,
    httpStatus: 409,
  },
  MODEL_REFUSED: {
    message: "The model is refused: {detail}",
    remedy: "The one in use stays. Train again with this version, or take the file from where it was stored.",
    retryable: false,
    httpStatus: 400,
  },
  CRL_REFUSED: {
    message: "The revocation list is refused: {detail}",
    remedy:
      "The one held before stays in use. Somebody serves a list that is damaged or not the authority's: look at the collector and at Vault.",
    retryable: false,
    httpStatus: 400,
  },
  NOT_YOURS: {
    message: "{value} may not {detail}",
    remedy: "Each process speaks for itself alone. If this one should, give it the certificate of that name.",
    retryable: false,
    httpStatus: 403,
  },
  HEARTBEAT_REFUSED: {
    message: "The heartbeat of {value} is refused: {detail}",
    remedy: "The next one is taken if it is right. If it lasts, somebody replays heartbeats, or the endpoint's clock jumps.",
    retryable: false,
    httpStatus: 409,
  },
  TOO_MANY: {
    message: "{value} asks too much: {detail}",
    remedy: "Ask less often. What is counted per sender does not touch the others.",
    retryable: true,
    httpStatus: 429,
  },
  ENDPOINT_REVOKED: {
    message: "Endpoint {value} was revoked and never serves again: {detail}",
    remedy: "Nothing: its machine is ended, and another one takes its place under another name.",
    retryable: false,
    httpStatus: 409,
  },
  ROTATION_UNDER_WAY: {
    message: "The rotation {value} runs already",
    remedy: "Wait for it; `foreshift keys status` says how far it is.",
    retryable: true,
    httpStatus: 409,
  },
  UNKNOWN_CLIENT: {
    message: "No client of swarm {detail} has the public key or inner address {value}",
    remedy: "Use the whole public key, or an address inside the tunnel, as the table `peers` of the database has them.",
    retryable: false,
    httpStatus: 404,
  },
  PAYLOAD_REFUSED: {
    message: "A sealed payload is refused: {detail}",
    remedy:
      "Nothing was decoded. Check that its key is the transit key named in the configuration, and whether somebody changed it.",
    retryable: false,
    httpStatus: 400,
  },
  CLOUD_NO_CAPACITY: {
    message: "The cloud has no room for {value}: {detail}",
    remedy:
      "The swarm asks again by itself. Name further instance types or zones in the hypervisor's configuration, or reserve capacity.",
    // Not by the step that met it: what waits for a machine has another way, and capacity does not come back in seconds.
    retryable: false,
    httpStatus: 503,
  },
  CLOUD_THROTTLED: {
    message: "The cloud's API is asked too often ({value}): {detail}",
    remedy:
      "It is tried again, more slowly. If it lasts, find out who else uses this account's API, or have its limits raised.",
    retryable: true,
    httpStatus: 429,
  },
  CLOUD_FAILED: {
    message: "The cloud failed at {value}: {detail}",
    remedy: "It is tried again. If it lasts, look at the provider's health page.",
    retryable: true,
    httpStatus: 503,
  },
  CLOUD_REFUSED: {
    message: "The cloud refused {value}: {detail}",
    remedy: "Correct the hypervisor's or balancer's configuration; docs/operations.md, On EC2, says what each field is for.",
    retryable: false,
    httpStatus: 400,
  },
  IMAGE_REFUSED: {
    message: "The image {value} does not pass its own test: {detail}",
    remedy: "Build it anew with `foreshift image build --no-cache`; where that changes nothing, report what failed.",
    retryable: false,
    httpStatus: 409,
  },
  ROLL_UNDER_WAY: {
    message: "An image is being rolled out in swarm {value} already: {detail}",
    remedy: "Watch it with `foreshift swarm get {value}`; pause, resume or abort it with `foreshift swarm roll {value}`.",
    retryable: false,
    httpStatus: 409,
  },
  NO_ROLLOUT: {
    message: "No image is being rolled out in swarm {value}{detail}",
    remedy:
      "Begin one with `foreshift swarm roll {value} --image DIGEST`; `foreshift swarm get {value}` shows how the last one ended.",
    retryable: false,
    httpStatus: 409,
  },
  NOT_CONFIGURED: {
    message: "No lab runs here, and {field} is not set",
    remedy:
      "Start a lab with `foreshift lab up`, or say by the environment where your own control plane is (docs/operations.md).",
    retryable: false,
    httpStatus: 503,
  },
  UNKNOWN_RUN: {
    message: "There is no run of the workflow {value}, or none that Temporal still has",
    remedy: "Use a workflow id as `foreshift audit` or Temporal's Web UI shows it, such as swarm/NAME or drain/NAME/ENDPOINT.",
    retryable: false,
    httpStatus: 404,
  },
  LAB_RUNS: {
    message: "A lab runs here already: it listens in {value}",
    remedy: "`foreshift lab status` shows it, `foreshift lab down` ends it. Another beside it needs another FORESHIFT_HOME.",
    retryable: false,
    httpStatus: 409,
  },
  NO_LAB: {
    message: "No lab runs here: nobody listens in {value}",
    remedy: "Start one with `foreshift lab up`. One that was started with another FORESHIFT_HOME is found with the same.",
    retryable: false,
    httpStatus: 503,
  },
  INTERNAL: {
    message: "Foreshift failed unexpectedly: {detail}",
    remedy: "This is a defect. Run again with FORESHIFT_DEBUG=1 and report what it prints.",
    retryable: true,
    httpStatus: 500,
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** What fills the placeholders of a message; never a secret. */
export interface ErrorDetails {
  readonly field?: string;
  readonly value?: string | number;
  readonly detail?: string;
}

/** The form in which an error travels: HTTP answers, `--json` output, Temporal failure details. */
export interface ErrorBody {
  readonly code: ErrorCode;
  readonly message: string;
  readonly remedy: string;
  readonly field?: string;
  readonly value?: string | number;
}

export class ForeshiftError extends Error {
  override readonly name = "ForeshiftError";
  readonly code: ErrorCode;
  readonly remedy: string;
  readonly retryable: boolean;
  readonly httpStatus: number;
  readonly exitCode: number;
  readonly field: string | undefined;
  readonly value: string | number | undefined;

  constructor(code: ErrorCode, details: ErrorDetails = {}, options?: { cause?: unknown }) {
    const entry: ErrorEntry = ERRORS[code];
    super(fill(entry.message, details), options);
    this.code = code;
    this.remedy = fill(entry.remedy, details);
    this.retryable = entry.retryable;
    this.httpStatus = entry.httpStatus;
    this.exitCode = entry.retryable ? 75 : 65;
    this.field = details.field;
    this.value = details.value;
  }

  toBody(): ErrorBody {
    return {
      code: this.code,
      message: this.message,
      remedy: this.remedy,
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(this.value === undefined ? {} : { value: this.value }),
    };
  }

  /** Rebuilds an error that travelled as a body; an unknown shape becomes `INTERNAL`. */
  static fromBody(body: unknown): ForeshiftError {
    if (isErrorBody(body)) {
      const error = new ForeshiftError(body.code, {
        ...(body.field === undefined ? {} : { field: body.field }),
        ...(body.value === undefined ? {} : { value: body.value }),
      });
      error.message = body.message;
      return error;
    }
    return new ForeshiftError("INTERNAL", { detail: `an answer of unknown shape: ${JSON.stringify(body)}` });
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Why a file or folder that a person named cannot be had, for a message that names it already. */
export function fileTrouble(thrown: unknown): string {
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
  if (code === "ENOENT") return "there is no such file or folder";
  if (code === "EACCES" || code === "EPERM") return "you may not read it";
  if (code === "EISDIR") return "it is a folder, and a file is expected";
  if (code === "ENOTDIR") return "it is no folder";
  return messageOf(thrown);
}

function fill(template: string, details: ErrorDetails): string {
  return template.replace(/\{(field|value|detail)\}/g, (_, key: keyof ErrorDetails) => String(details[key] ?? "unknown"));
}

function isErrorBody(body: unknown): body is ErrorBody {
  if (typeof body !== "object" || body === null) return false;
  const { code, message } = body as { code?: unknown; message?: unknown };
  return typeof code === "string" && Object.hasOwn(ERRORS, code) && typeof message === "string";
}
