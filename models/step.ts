/** What a decision may consist of. Each step carries a sentence that a person reads at night. */

export type Step =
  | {
      readonly kind: "set-weight";
      readonly endpoint: string;
      readonly weight: number;
      /** Set where a prediction asks for it: the labels of later trainings depend on it. */
      readonly cause?: "predicted" | "control-slice";
      readonly reason: string;
    }
  | {
      readonly kind: "drain-and-replace";
      readonly endpoint: string;
      /**
       * `drain`: its sessions go to the others. `replace`: to a machine that takes its place, once that serves. `spread`: to the others at
       * once, while a machine is made that takes its place.
       */
      readonly mode: "drain" | "replace" | "spread";
      readonly cause: string;
      readonly reason: string;
    }
  | { readonly kind: "finish-lost"; readonly endpoint: string; readonly cause: string; readonly reason: string }
  | {
      readonly kind: "replenish-ghosts";
      readonly count: number;
      /** Ghosts of another image than the one in force, which end once there are others; absent: none. */
      readonly replaces?: readonly string[];
      readonly reason: string;
    }
  | {
      readonly kind: "add-endpoints";
      readonly count: number;
      /** Of the run, where another one that adds endpoints is under way: 2, 3 … Absent: the first. */
      readonly turn?: number;
      readonly reason: string;
    }
  | RelieveStep
  | { readonly kind: "page"; readonly subject: string; readonly reason: string };

/** Leads the sessions that are too many for an endpoint to others; it goes on serving the rest. */
export interface RelieveStep {
  readonly kind: "relieve";
  readonly endpoint: string;
  /** How many of them each of these takes. */
  readonly to: readonly { readonly endpoint: string; readonly sessions: number }[];
  readonly reason: string;
}

export interface Withheld {
  readonly step: Step;
  readonly because: string;
}

export interface Decision<State> {
  readonly state: State;
  readonly steps: readonly Step[];
  readonly withheld: readonly Withheld[];
}
