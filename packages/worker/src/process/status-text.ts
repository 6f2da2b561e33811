/** A worker's status for people. */
import type { DrainSummary, WorkerStatus } from "../status.ts";

/** What `helmr-worker status` prints. */
export function statusText(status: WorkerStatus, now = new Date()): string {
  const { capacity, disk, isolation, control_plane: controlPlane } = status;
  const { total, free } = capacity;
  const used = (kind: keyof typeof total, unit = "") =>
    `${total[kind] - free[kind]}${unit} of ${total[kind]}${unit} held, ${free[kind]}${unit} free`;
  const labels = Object.entries(status.labels).map(([key, value]) => `${key}=${value}`);
  const contact = controlPlane.last_contact_at;
  const lines: [string, string][] = [
    ["worker", `${status.name} (${status.worker_instance_id}), version ${status.version}, pid ${status.pid}`],
    ["state", `${stateText(status)}, for ${age(now.getTime() - Date.parse(status.since))}`],
    ...(labels.length === 0 ? [] : [["labels", labels.join(", ")] as [string, string]]),
    [
      "control plane",
      `${controlPlane.url}, ${contact === undefined ? "no contact yet" : `last contact ${age(now.getTime() - Date.parse(contact))} ago`}`,
    ],
    ["driver", `${isolation.driver} ${isolation.version}`],
    [
      "checkpoints",
      isolation.checkpoint_compatibility ??
        "none: waiting runs keep their guests (a key, or the host, is missing)",
    ],
    ["slots", `${used("slots")}; builds ${status.builds.held.length} of ${status.builds.slots}`],
    ["cpu", used("cpu")],
    [
      "memory",
      `${used("memory_mib", " MiB")}; idle guests ${status.pool.guests}, ${status.pool.memory_mib} MiB`,
    ],
    ["workspaces", used("disk_mib", " MiB")],
    [
      "disk",
      `${disk.free_mib} MiB of ${disk.total_mib} MiB free at ${disk.dir}, ${disk.reserve_mib} MiB reserved` +
        (disk.is_full ? "; NEARLY FULL: no new work is taken" : ""),
    ],
  ];
  const work = workLines(status);
  return [
    ...lines.map(([name, value]) => `${name.padEnd(14)} ${value}`),
    "",
    ...(work.length === 0 ? ["nothing is at work"] : table(["WHAT", "ID", "STATE", "AGE"], work)),
    "",
  ].join("\n");
}

/** One line about what a drain still waits for. */
export function progressText(status: WorkerStatus): string {
  const { runs, builds, copies, drain } = status;
  const phases = new Map<string, number>();
  for (const { phase } of runs) phases.set(phase, (phases.get(phase) ?? 0) + 1);
  const detail = Array.from(phases, ([phase, count]) => `${count} ${phase}`).join(", ");
  const left =
    drain?.left_ms === undefined || drain.phase !== "draining"
      ? ""
      : `; what is left in ${age(drain.left_ms)} is given back`;
  const held = [
    `${counted(runs.length, "run")}${detail === "" ? "" : ` (${detail})`}`,
    counted(builds.held.length, "build"),
    counted(copies.length, "live copy", "live copies"),
  ].join(", ");
  return `${drain?.phase === "overdue" ? "giving back" : "draining"}: ${held}${left}`;
}

/** What a drain came to. */
export function summaryText({ runs, builds, copies, left }: DrainSummary): string {
  return [
    `runs: ${runs.finished} finished, ${runs.parked} parked, ${runs.handed_back} given back, ${runs.lost} lost`,
    `builds: ${builds.finished} finished, ${builds.handed_back} given back`,
    `live copies: ${copies.saved} saved, ${copies.unsaved} not saved`,
    ...(left === 0 ? [] : [`${left} did not end in time: their leases end by themselves`]),
  ].join("\n");
}

/** Whether something was interrupted. */
export function wasInterrupted({ runs, builds, copies, left }: DrainSummary): boolean {
  return runs.handed_back + runs.lost + builds.handed_back + copies.unsaved + left > 0;
}

function stateText({ state, drained_by_operator: isOperators, drain }: WorkerStatus): string {
  const who = isOperators ? " (by an operator, at the control plane)" : "";
  const left =
    drain?.left_ms === undefined || drain.phase !== "draining" ? "" : `, ${age(drain.left_ms)} left`;
  return `${state}${who}${left}`;
}

function workLines({ runs, builds, copies }: WorkerStatus): string[][] {
  return [
    ...runs.map((run) => ["run", run.run_id, run.phase, age(run.age_ms)]),
    ...builds.held.map((build) => ["build", build.deployment_id, "building", age(build.age_ms)]),
    ...copies.map((copy) => ["live copy", copy.workspace_id, copy.phase, age(copy.age_ms)]),
  ];
}

function table(head: string[], rows: string[][]): string[] {
  const widths = head.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at]?.length ?? 0)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

const counted = (count: number, one: string, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** `3s`, `4m 10s`, `2h 5m`, `3d 1h`. */
function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0s";
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0);
  return shown.map(([value, unit]) => `${value}${unit}`).join(" ");
}
