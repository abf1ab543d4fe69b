/**
 * The swarm file: what a person states of one swarm. Every number a decision depends on is here, as policy, with a default.
 */
import { z } from "zod";
import { ImageName } from "./image.ts";
import { LIMITS } from "./limits.ts";
import { PlaceLabel } from "./outside-events.ts";
import { SecretRef } from "./session.ts";
import { Algorithm, OutlierPolicy, SwarmName } from "./steering.ts";

const percent = z.number().min(0).max(100);

/** What Foreshift may choose to disrupt. Finishing what a dead machine began is not limited by it. */
export const Budget = z.strictObject({
  /** At once: max(1, this share of the endpoints). */
  disruptedShareMaxPercent: percent.default(10),
  /** In any window: max(1, this share of the endpoints). */
  windowShareMaxPercent: percent.default(30),
  windowMs: z.number().int().min(1_000).default(600_000),
  /** More unhealthy than this (and more than one): freeze and page. */
  freezeUnhealthyPercent: percent.default(20),
});
export type Budget = z.infer<typeof Budget>;

/** When an endpoint counts as degraded or critical. Each signal must hold for `holdMs` before anything is done. */
export const Thresholds = z.strictObject({
  /** Round trip through the tunnel over the swarm's median, as a factor, and in milliseconds at least. */
  rttFactor: z.number().min(1).default(3),
  rttExcessMsMin: z.number().min(0).default(10),
  lossDegraded: z.number().min(0).max(1).default(0.02),
  lossCritical: z.number().min(0).max(1).default(0.3),
  cpuDegraded: z.number().min(0).max(1).default(0.8),
  cpuCritical: z.number().min(0).max(1).default(0.95),
  /** A signal is believed after this long … */
  holdMs: z.number().int().min(0).default(2_000),
  /** … and a degraded endpoint is replaced after this long without recovering. */
  replaceAfterMs: z.number().int().min(0).default(10_000),
  /** Healthy for this long: weight is raised again. */
  recoverAfterMs: z.number().int().min(0).default(15_000),
  /** No second chosen action on the same endpoint within this time. */
  coolDownMs: z.number().int().min(0).default(60_000),
});
export type Thresholds = z.infer<typeof Thresholds>;

const share = z.number().min(0).max(1);

/** When the failure model is trained anew, and on what. */
export const RetrainPolicy = z.strictObject({
  mode: z.enum(["off", "on"]).default("on"),
  everyMs: z.number().int().min(60_000).default(86_400_000),
  /** So much of the past is learned from, no more than is kept by the minute. */
  historyMs: z.number().int().min(60_000).max(LIMITS.telemetry.minuteRetentionMs).default(2_419_200_000),
  /** With fewer failures in it, nothing is trained and what is in use stays. */
  failuresMin: z.number().int().min(2).default(10),
});
export type RetrainPolicy = z.infer<typeof RetrainPolicy>;

/** What may be done on the strength of a prediction. Costs are in units of one session out of service once. */
export const ForesightPolicy = z.strictObject({
  /** `off`: nothing is predicted. `advise`: it is shown what would be done. `act`: it is done, within the budget. */
  mode: z.enum(["off", "advise", "act"]).default("advise"),
  /** How far ahead the probability of failure looks. */
  windowMs: z.number().int().min(1_000).default(600_000),
  failureThreshold: share.default(0.7),
  overloadThreshold: share.default(0.8),
  /** A band that was entered at a threshold is left at this share of it. */
  leaveShare: share.default(0.5),
  /** So many of the newest `confirmationsOf` scores must agree. */
  confirmations: z.number().int().min(1).max(16).default(2),
  confirmationsOf: z.number().int().min(1).max(16).default(3),
  /** A band is kept at least this long before a lower one. */
  dwellMs: z.number().int().min(0).default(60_000),
  /** Once sessions need no longer leave an endpoint, they are not made to leave it again for this long. */
  coolDownMs: z.number().int().min(0).default(60_000),
  /** With an interval wider than this, no machine is replaced: its weight is lowered first. */
  uncertainWidth: share.default(0.6),
  /** A score that is older than this counts for nothing. */
  scoreStaleMs: z.number().int().min(1_000).default(60_000),
  /** The same of a forecast of the load. */
  demandStaleMs: z.number().int().min(1_000).default(900_000),
  /** Share of the expected damage that moving in time avoids. */
  efficacy: share.default(0.9),
  /**
   * With `act`, this share of the endpoints, chosen by a hash of their names, is never left on a prediction: only their weight is lowered.
   * What came of them keeps the labels of the next training honest (models/failure/labels.ts). 0: none.
   */
  controlShare: z.number().min(0).max(0.5).default(0.05),
  retrain: RetrainPolicy.prefault({}),
  /** How much an outage of this swarm's users weighs. */
  slaWeight: z.number().min(0).max(1_000).default(1),
  costs: z
    .strictObject({
      outagePerSession: z.number().min(0).default(1),
      overloadPerSession: z.number().min(0).default(0.3),
      movePerSession: z.number().min(0).default(0.02),
      launch: z.number().min(0).default(1),
      reweight: z.number().min(0).default(0.05),
    })
    .prefault({}),
});
export type ForesightPolicy = z.infer<typeof ForesightPolicy>;

const DAY_MS = 86_400_000;

/** When keys of one kind are rotated by themselves. Without `everyMs` only when somebody asks. */
const rotation = {
  everyMs: z.number().int().min(60_000).optional(),
  /** Begun at a moment of chance up to this long after it is due, so that swarms do not all ask Vault at once. */
  jitterMs: z.number().int().min(0).default(3_600_000),
  /** Due while Temporal was away: made up for within this time, once; after it, left to the next. */
  catchUpMs: z.number().int().min(60_000).default(DAY_MS),
};

export const KeyPolicy = z.strictObject({
  preshared: z
    .strictObject({
      ...rotation,
      batchClients: z.number().int().min(1).max(1_024).default(64),
      /**
       * `force`: the clients are made to shake hands at once. `await`: WireGuard does within two minutes of traffic by itself; nothing
       * at all is asked of sessions, and a client that could not shake hands is found out while its old session still has a minute.
       */
      handshake: z.enum(["force", "await"]).default("force"),
      /** From the switch until every client with traffic has shaken hands with the new key; with `await` two minutes more. */
      verifyTimeoutMs: z.number().int().min(1_000).max(30_000).default(10_000),
    })
    .prefault({}),
  /** The swarm's own WireGuard key pair, which its clients know it by. */
  static: z
    .strictObject({
      ...rotation,
      batchClients: z.number().int().min(1).max(1_024).default(64),
      /** From the first client's move until the former key is given up, whoever has not moved by then. All moved, it is at once. */
      graceMs: z
        .number()
        .int()
        .min(1_000)
        .max(30 * DAY_MS)
        .default(DAY_MS),
      /** Clients that could not be reached are tried again this often. */
      retryEveryMs: z.number().int().min(1_000).max(DAY_MS).default(60_000),
      /** Until a client has shaken hands by the new key, and until its packets come by it. */
      verifyTimeoutMs: z.number().int().min(1_000).max(30_000).default(10_000),
    })
    .prefault({}),
  /** The key that seals payloads. It is everybody's and rotated once for all, as often as the swarm file that wants it most often says. */
  transit: z.strictObject(rotation).prefault({}),
  /** Of the swarm's endpoints and the processes that serve them. Each replaces its own at two thirds of its life anyhow. */
  certificates: z
    .strictObject({
      ...rotation,
      /** For connections to go over to the new one; those that have not by then end with the old one. At most what a step may take. */
      overlapMs: z.number().int().min(1_000).max(120_000).default(30_000),
    })
    .prefault({}),
});
export type KeyPolicy = z.infer<typeof KeyPolicy>;

/** How another image is brought to the machines of a swarm (models/roll.ts). */
export const RollPolicy = z.strictObject({
  /** Endpoints replaced before what replaced them is watched; the budget may allow fewer at once. Unless stated as many as it allows. */
  batchEndpoints: z.number().int().min(1).max(512).optional(),
  /** How long what was replaced is watched before the next batch, and after the last. */
  bakeMs: z.number().int().min(0).max(DAY_MS).default(60_000),
  /** The share of endpoints that go bad may be this much greater with the new image than without. */
  worseShareMax: share.default(0.1),
  /** Made worse, everything goes back to the former image by itself; otherwise the rollout waits for a person. */
  rollback: z.boolean().default(true),
});
export type RollPolicy = z.infer<typeof RollPolicy>;

export const SwarmSpec = z.strictObject({
  apiVersion: z.literal("foreshift/v1"),
  kind: z.literal("Swarm"),
  name: SwarmName,
  /** Where its endpoints are, for events that reach a place (models/outside-events.ts); region `local` unless stated. */
  region: PlaceLabel.optional(),
  zone: PlaceLabel.optional(),
  /** The far ends of its ways, for outside events that reach them: where clients are, and what lies behind the endpoints. */
  paths: z
    .strictObject({
      /** The swarm's own region unless stated. */
      clientRegions: z.array(PlaceLabel).max(8).default([]),
      upstreams: z
        .array(z.strictObject({ name: PlaceLabel, region: PlaceLabel.optional() }))
        .max(4)
        .default([]),
    })
    .optional(),
  vip: z.strictObject({ v4: z.ipv4(), v6: z.ipv6().optional(), port: z.number().int().min(1).max(65_534).default(51_820) }),
  algorithm: Algorithm.default("consistent-hash"),
  endpoints: z.strictObject({
    count: z.number().int().min(1).max(512),
    /** With this the swarm grows with its sessions, and ahead of them, up to so many endpoints; never below `count`. */
    countMax: z.number().int().min(1).max(512).optional(),
    /** More endpoints than are wanted are drained, one after the other, once there have been too many for so long. */
    scaleInAfterMs: z.number().int().min(60_000).default(1_800_000),
    ghosts: z.number().int().min(0).max(64).default(1),
    /** A ghost that has been there for so long is replaced by a fresh one; absent: however long. */
    ghostAgeMaxMs: z.number().int().min(60_000).optional(),
    /** Sessions one endpoint carries at weight 100. */
    capacitySessions: z.number().int().min(1).default(500),
    weight: z.number().int().min(1).max(100).default(100),
    /** What machines that are launched from now on boot from; those there are get it by `swarm roll`. The hypervisor's own unless stated. */
    image: ImageName.optional(),
    /** What one endpoint costs in an hour, and its launch once, in whatever money the plan is to be read in. */
    costPerHour: z.number().min(0).optional(),
    costPerLaunch: z.number().min(0).optional(),
    /** What one ghost costs in an hour: on EC2 its disk and its addresses alone. As much as an endpoint unless stated. */
    costPerGhostHour: z.number().min(0).optional(),
  }),
  /** The swarm's WireGuard key pair, shared by all its endpoints. */
  key: z.strictObject({ secret: SecretRef, publicKey: z.string() }),
  /** How its keys are rotated. */
  keys: KeyPolicy.prefault({}),
  move: z
    .strictObject({
      batchSessions: z.number().int().min(1).max(4096).default(64),
      /** Old sessions are kept this long after the last one was seen on the replacement. */
      overlapMs: z.number().int().min(0).max(180_000).default(1_000),
      verifyTimeoutMs: z.number().int().min(100).max(600_000).default(10_000),
    })
    .prefault({}),
  budget: Budget.prefault({}),
  rollout: RollPolicy.prefault({}),
  thresholds: Thresholds.prefault({}),
  outlier: OutlierPolicy.prefault({}),
  foresight: ForesightPolicy.prefault({}),
  /** Try a restart in place before a replacement. */
  recoverInPlace: z.boolean().default(true),
});
export type SwarmSpec = z.infer<typeof SwarmSpec>;
