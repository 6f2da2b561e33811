/**
 * `npm run bench [-- --quick] [--only GROUP] [--json]`: one table of medians and p95, with run count and machine.
 *
 * Groups run one after the other, each on data of its own. `--json` prints one object per row. Nothing is left behind, also
 * when it is interrupted. What a figure does not measure stands in its row, and more of it at the head of the group's file.
 */
import { cpus, loadavg, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { benchApi } from "./api.ts";
import { benchAuth } from "./auth.ts";
import { benchCosts } from "./costs.ts";
import { benchDispatch } from "./dispatch.ts";
import { releaseAll, releaseOnSignals } from "./leftovers.ts";
import { benchLogs } from "./logs.ts";
import type { BenchOptions, Row } from "./measure.ts";
import { benchParkedRuns } from "./parked-runs.ts";
import { benchQueue } from "./queue.ts";
import { benchColdStart, benchLifecycle, benchPooledStart } from "./runs.ts";
import { benchHotWaits, benchParkedWaits } from "./waits.ts";
import { benchWorkspaceCommands } from "./workspace-commands.ts";
import { benchWorkspaceVersions } from "./workspaces.ts";

const groups: Readonly<Record<string, readonly ((options: BenchOptions) => Promise<Row[]>)[]>> = {
  start: [benchPooledStart, benchColdStart],
  lifecycle: [benchLifecycle],
  queue: [benchQueue],
  dispatch: [benchDispatch],
  costs: [benchCosts],
  logs: [benchLogs],
  api: [benchApi],
  auth: [benchAuth],
  waits: [benchHotWaits, benchParkedWaits, benchParkedRuns],
  workspaces: [benchWorkspaceVersions, benchWorkspaceCommands],
};

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
if (values.only !== undefined && !(values.only in groups)) {
  console.error(`no group ${values.only}; groups: ${Object.keys(groups).join(", ")}`);
  process.exit(2);
}

releaseOnSignals();
const loadBefore = loadavg()[0] ?? 0;
const rows: Row[] = [];
for (const [group, benches] of Object.entries(groups)) {
  if (values.only !== undefined && group !== values.only) continue;
  for (const bench of benches) {
    console.error(`measuring ${group} …`);
    const measured = await bench({ quick: values.quick });
    rows.push(...measured);
    if (values.json) for (const row of measured) console.log(JSON.stringify(row));
  }
}

await releaseAll();

if (!values.json) {
  const table = new Table({
    head: [
      "name",
      "p50 ms",
      "p95 ms",
      "per second",
      "ratio",
      "MB",
      "runs",
      "what, and what it does not measure",
    ],
    colWidths: [null, null, null, null, null, null, null, 72],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  const cell = (value: number | undefined) => (value === undefined ? "" : String(value));
  for (const row of rows) {
    table.push([
      row.name,
      cell(row.p50_ms),
      cell(row.p95_ms),
      cell(row.per_second),
      cell(row.ratio),
      row.bytes === undefined ? "" : (row.bytes / 1e6).toFixed(Math.abs(row.bytes) < 1e5 ? 4 : 1),
      row.runs,
      row.note ?? "",
    ]);
  }
  const cpu = cpus()[0]?.model ?? "unknown processor";
  console.log(
    `${cpus().length} x ${cpu}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version}, ` +
      `load ${loadBefore.toFixed(1)} before`,
  );
  console.log(table.toString());
}
