/**
 * The plan of a run of the harness: what clients do, and what breaks, each with its moment and its target. It is made from
 * the seed before anything starts, and nothing that happens changes it: the same seed, or the saved file, does the same again.
 * (What the machine makes of it differs: two runs of a plan are not the same run.)
 *
 *   P1 Everything in it is decided by seed, length and kinds.
 *   P2 Operations begin, and faults begin and end, within the length.
 *   P3 A part, a line or a store has one fault at a time, with a pause after it; at most `maxTogether` are under way.
 *   P4 A worker that is frozen is so for longer than its lease.
 */
import { z } from "zod";
import { Random } from "./random.ts";

export const maxTogether = 2;
/** Long enough for a heartbeat of a busy machine, short enough to be waited for. */
export const leaseMs = 8_000;

const controls = ["control-0", "control-1", "control-2"] as const;
const dispatchers = ["dispatcher-0", "dispatcher-1"] as const;
const workers = ["worker-0", "worker-1", "worker-2"] as const;
export const parts = [...controls, ...dispatchers, ...workers] as const;
export type PartName = (typeof parts)[number];

/** Who is at one end of a line, and what at the other. */
const folderLines = [
  "clients>control",
  ...workers.map((name) => `${name}>control` as const),
  ...[...controls, ...dispatchers].flatMap((name) => [`${name}>postgres` as const, `${name}>redis` as const]),
] as const;
/** A folder has none to it. */
export const lines = [...folderLines, ...parts.map((name) => `${name}>store` as const)] as const;
export type LineName = (typeof lines)[number];

const at = z.int().nonnegative();
const forMs = z.int().nonnegative();

const partFault = z.object({ at, forMs, kind: z.enum(["kill", "freeze"]), target: z.enum(parts) });
const lineFault = z.object({ at, forMs, kind: z.enum(["cut", "refuse", "silence"]), target: z.enum(lines) });
const clockFault = z.object({
  at,
  forMs,
  kind: z.literal("clock-step"),
  target: z.literal("worker-2"),
  stepMs: z.int(),
});
export type PartFault = z.infer<typeof partFault>;
export type LineFault = z.infer<typeof lineFault>;
export type ClockFault = z.infer<typeof clockFault>;

export const faultSchema = z.discriminatedUnion("kind", [
  partFault,
  lineFault,
  z.object({
    at,
    forMs,
    kind: z.enum(["store-full", "store-slow", "store-down"]),
    target: z.literal("store"),
  }),
  z.object({ at, forMs, kind: z.enum(["redis-flush", "redis-kill"]), target: z.literal("redis") }),
  z.object({
    at,
    forMs,
    kind: z.enum(["postgres-fast", "postgres-immediate"]),
    target: z.literal("postgres"),
  }),
  clockFault,
]);
export type Fault = z.infer<typeof faultSchema>;
export type FaultKind = Fault["kind"];

const id = z.string().min(1);
export const operationSchema = z.discriminatedUnion("kind", [
  z.object({ at, id, kind: z.literal("steps"), steps: z.int(), stepMs: z.int(), follow: z.boolean() }),
  z.object({ at, id, kind: z.literal("limited"), steps: z.int(), stepMs: z.int(), key: z.string() }),
  z.object({ at, id, kind: z.literal("asks"), tokens: z.int(), answerAfterMs: z.int(), rivals: z.int() }),
  z.object({ at, id, kind: z.literal("listens"), inputs: z.int(), everyMs: z.int() }),
  z.object({ at, id, kind: z.literal("sleeps"), ms: z.int(), follow: z.boolean() }),
  z.object({ at, id, kind: z.literal("counts"), times: z.int() }),
  z.object({ at, id, kind: z.literal("cancel"), task: z.enum(["steps", "sleeps"]), afterMs: z.int() }),
  z.object({ at, id, kind: z.literal("workspace"), writes: z.int(), commands: z.int() }),
  z.object({ at, id, kind: z.literal("schedule"), end: z.enum(["keep", "delete", "deactivate"]) }),
  z.object({ at, id, kind: z.literal("deploy") }),
]);
export type Operation = z.infer<typeof operationSchema>;
export type OperationKind = Operation["kind"];

export const planSchema = z.object({
  version: z.literal(1),
  seed: z.string(),
  durationMs: z.int().positive(),
  store: z.enum(["file", "s3"]),
  operations: z.array(operationSchema),
  faults: z.array(faultSchema),
});
export type Plan = z.infer<typeof planSchema>;

export interface PlanOptions {
  readonly seed: string;
  readonly durationMs: number;
  readonly store: Plan["store"];
  /** Mean pause between two operations. */
  readonly everyMs: number;
  /** Mean pause between the beginnings of two faults. */
  readonly faultEveryMs: number;
  /** Default: all that the store can have. */
  readonly faultKinds?: readonly FaultKind[] | undefined;
}

const operationWeights: Readonly<Record<OperationKind, number>> = {
  steps: 22,
  limited: 14,
  asks: 18,
  listens: 12,
  sleeps: 12,
  counts: 8,
  cancel: 6,
  workspace: 10,
  schedule: 2,
  deploy: 1,
};

const faultWeights: Readonly<Record<FaultKind, number>> = {
  kill: 26,
  freeze: 16,
  cut: 14,
  refuse: 8,
  silence: 8,
  "store-full": 5,
  "store-slow": 5,
  "store-down": 4,
  "redis-flush": 6,
  "redis-kill": 4,
  "postgres-fast": 4,
  "postgres-immediate": 5,
  "clock-step": 4,
};

/** What an object store of each kind can be made to do (faults/store.ts). */
export const storeFaults: Readonly<Record<Plan["store"], readonly FaultKind[]>> = {
  file: ["store-full"],
  s3: ["store-slow", "store-full", "store-down"],
};

/** P1 to P4. */
export function makePlan({ seed, durationMs, store, everyMs, faultEveryMs, faultKinds }: PlanOptions): Plan {
  return {
    version: 1,
    seed,
    durationMs,
    store,
    operations: planOperations(new Random(`operations ${seed}`), durationMs, everyMs),
    faults: planFaults(new Random(`faults ${seed}`), {
      durationMs,
      faultEveryMs,
      kinds: kindsOf(store, faultKinds),
      lines: store === "s3" ? lines : folderLines,
    }),
  };
}

function kindsOf(store: Plan["store"], wanted: readonly FaultKind[] | undefined): FaultKind[] {
  const all = Object.keys(faultWeights) as FaultKind[];
  const possible = all.filter((kind) => !kind.startsWith("store-") || storeFaults[store].includes(kind));
  return wanted === undefined ? possible : possible.filter((kind) => wanted.includes(kind));
}

function planOperations(random: Random, durationMs: number, everyMs: number): Operation[] {
  const operations: Operation[] = [];
  let when = 0;
  while (when < durationMs) {
    operations.push(planOperation(random, when, `op${operations.length + 1}`));
    when += random.int(Math.ceil(everyMs * 0.2), Math.ceil(everyMs * 1.8));
  }
  return operations;
}

function planOperation(random: Random, when: number, name: string): Operation {
  const kind = random.weighted(operationWeights);
  const head = { at: when, id: name };
  switch (kind) {
    case "steps":
      return {
        ...head,
        kind,
        steps: random.int(1, 12),
        stepMs: random.int(50, 800),
        follow: random.chance(0.5),
      };
    case "limited":
      return {
        ...head,
        kind,
        steps: random.int(1, 6),
        stepMs: random.int(50, 600),
        key: random.pick(["a", "a", "b"]),
      };
    case "asks":
      return {
        ...head,
        kind,
        tokens: random.int(1, 2),
        answerAfterMs: random.pick([0, 200, 1_500, 4_000, 8_000]),
        rivals: random.int(0, 2),
      };
    case "listens":
      return { ...head, kind, inputs: random.int(1, 5), everyMs: random.pick([10, 300, 2_500]) };
    case "sleeps":
      return { ...head, kind, ms: random.pick([500, 2_500, 6_000, 12_000]), follow: random.chance(0.5) };
    case "counts":
      return { ...head, kind, times: random.int(1, 3) };
    case "cancel":
      return { ...head, kind, task: random.pick(["steps", "sleeps"]), afterMs: random.int(0, 5_000) };
    case "workspace":
      return { ...head, kind, writes: random.int(1, 3), commands: random.int(0, 2) };
    case "schedule":
      return { ...head, kind, end: random.pick(["keep", "delete", "deactivate"]) };
    case "deploy":
      return { ...head, kind };
  }
}

interface FaultOptions {
  readonly durationMs: number;
  readonly faultEveryMs: number;
  readonly kinds: readonly FaultKind[];
  readonly lines: readonly LineName[];
}

function planFaults(random: Random, options: FaultOptions): Fault[] {
  const { durationMs, faultEveryMs, kinds } = options;
  const faults: Fault[] = [];
  if (kinds.length === 0) return faults;
  const weights = Object.fromEntries(kinds.map((kind) => [kind, faultWeights[kind]]));
  /** P3: from when on a target may break again. */
  const freeFrom = new Map<string, number>();
  let when = random.int(1_000, Math.max(1_000, Math.min(5_000, durationMs / 4)));
  while (when < durationMs) {
    const fault = planFault(random, random.weighted(weights) as FaultKind, when, options.lines);
    const together = faults.filter((other) => other.at + other.forMs > when).length;
    const isFree = (freeFrom.get(fault.target) ?? 0) <= when;
    if (isFree && together < maxTogether && when + fault.forMs <= durationMs) {
      faults.push(fault);
      freeFrom.set(fault.target, when + fault.forMs + 3_000);
    }
    when += random.int(Math.ceil(faultEveryMs * 0.2), Math.ceil(faultEveryMs * 1.8));
  }
  return faults;
}

function planFault(random: Random, kind: FaultKind, when: number, among: readonly LineName[]): Fault {
  const head = { at: when };
  switch (kind) {
    case "kill":
      return { ...head, forMs: random.int(0, 6_000), kind, target: aPart(random) };
    case "freeze": {
      const target = aPart(random);
      // P4
      const least = target.startsWith("worker") ? leaseMs + 2_000 : 500;
      return { ...head, forMs: random.int(least, leaseMs + 6_000), kind, target };
    }
    case "cut":
      return { ...head, forMs: 0, kind, target: random.pick(among) };
    case "refuse":
    case "silence":
      return { ...head, forMs: random.int(500, leaseMs + 4_000), kind, target: random.pick(among) };
    case "store-full":
    case "store-slow":
    case "store-down":
      return { ...head, forMs: random.int(2_000, 10_000), kind, target: "store" };
    case "redis-flush":
      return { ...head, forMs: 0, kind, target: "redis" };
    case "redis-kill":
      return { ...head, forMs: random.int(0, 5_000), kind, target: "redis" };
    case "postgres-fast":
    case "postgres-immediate":
      return { ...head, forMs: random.int(0, 3_000), kind, target: "postgres" };
    case "clock-step": {
      const stepMs = random.pick([-3_600_000, -30_000, 30_000, 3_600_000]);
      return { ...head, forMs: random.int(4_000, 15_000), kind, target: "worker-2", stepMs };
    }
  }
}

/** Workers break most: they have the most to lose. */
function aPart(random: Random): PartName {
  return random.chance(0.5) ? random.pick(workers) : random.pick([...controls, ...dispatchers]);
}
