/** Docs, dashboard and alerts name the metrics that there are, and the page all of them. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import {
  createControlMetrics,
  createDispatcherMetrics,
  createWorkerMetrics,
  unreadRegistry,
  watchDatabase,
  watchWork,
} from "../src/index.ts";
import { createRegistry, type MetricsRegistry } from "../src/registry.ts";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => readFile(new URL(path, root), "utf8");

const never = () => Promise.reject(new Error("not asked"));
const pool = () => ({ open: 0, idle: 0, waiting: 0, max: 0 });
/** As the processes make them. */
const groups: Readonly<Record<string, (registry: MetricsRegistry) => void>> = {
  control: (registry) => createControlMetrics(registry),
  dispatcher: (registry) => {
    createDispatcherMetrics(registry);
    watchWork(registry, { sample: never, onError: () => undefined });
  },
  worker: (registry) => createWorkerMetrics(registry),
  "control, dispatcher": (registry) => watchDatabase(registry, pool),
};

interface Described {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly process: string;
}

function describeGroup(process: string, make: (registry: MetricsRegistry) => void): Described[] {
  const registry = unreadRegistry();
  make(registry);
  return registry.getMetricsAsArray().map((metric) => {
    // `type` and `labelNames` are not in the types of prom-client 15.
    const { name, help, type, labelNames } = metric as unknown as {
      name: string;
      help: string;
      type: string;
      labelNames: string[];
    };
    return { name, help, type, labels: labelNames.filter((label) => label !== "le"), process };
  });
}

const described = Object.entries(groups).flatMap(([process, make]) => describeGroup(process, make));
const own = new Set(described.map(({ name }) => name));
const common = new Set(
  createRegistry("helmr-test")
    .getMetricsAsArray()
    .map(({ name }) => name),
);

/** Names in a PromQL expression that this registry, or its histograms, must have. */
function unknownMetrics(expression: string): string[] {
  const names = expression.match(/\b(?:helmr|process|nodejs)_[a-z0-9_]+/g) ?? [];
  return names.filter((name) => {
    const base = name.replace(/_(?:bucket|sum|count)$/, "");
    return !own.has(name) && !common.has(name) && !own.has(base);
  });
}

test("every metric is in the page's table, as it is, and nothing else", async () => {
  const page = await read("docs/observability.md");
  const table = /<!-- metrics -->\n([\s\S]*?)\n<!-- end of metrics -->/.exec(page)?.[1];
  const rows = described
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(
      ({ name, type, labels, process, help }) =>
        `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${process} | ${help} |`,
    );
  expect(table).toBe(["| metric | kind | labels | of | what |", "|---|---|---|---|---|", ...rows].join("\n"));
});

test("names are as Prometheus wants them: base units, and counters end in _total", () => {
  for (const { name, type, help, labels } of described) {
    expect(name).toMatch(/^helmr_[a-z0-9_]+$/);
    expect(name.endsWith("_total"), name).toBe(type === "counter");
    expect(name).not.toMatch(/_(?:ms|milliseconds|kib|mib|minutes)(?:_|$)/);
    expect(help, name).toMatch(/^[A-Z0-9].*[^.]$/);
    for (const label of labels) expect(label, name).not.toMatch(/(?:^|_)id$|tenant|environment|project|path/);
  }
});

const dashboard = z.object({
  uid: z.string().min(1),
  title: z.string().min(1),
  schemaVersion: z.literal(39),
  templating: z.object({ list: z.array(z.object({ name: z.string(), type: z.string() })) }),
  panels: z.array(
    z.object({
      id: z.int(),
      type: z.enum(["row", "timeseries", "stat"]),
      title: z.string().min(1),
      gridPos: z.object({ h: z.int().min(1), w: z.int().min(1).max(24), x: z.int(), y: z.int() }),
      targets: z
        .array(
          z.object({
            refId: z.string(),
            expr: z.string().min(1),
            datasource: z.object({ uid: z.literal(`$\{datasource}`) }),
          }),
        )
        .optional(),
    }),
  ),
});

test("the dashboard asks for metrics that there are, for all of them, and its panels do not overlap", async () => {
  const { panels, templating } = dashboard.parse(JSON.parse(await read("deploy/grafana/helmr.json")));
  expect(templating.list.map(({ name }) => name)).toEqual(["datasource"]);
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  expect(expressions.flatMap(unknownMetrics)).toEqual([]);
  const shown = expressions.join("\n");
  expect([...own].filter((name) => !shown.includes(name))).toEqual([]);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, n) => `${x + (n % w)},${y + Math.floor(n / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
});

const alerts = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z
        .array(
          z.strictObject({
            alert: z.string().regex(/^Helmr[A-Za-z]+$/),
            expr: z.string(),
            for: z.string().optional(),
            labels: z.object({ severity: z.enum(["warning", "critical"]) }),
            annotations: z.object({ summary: z.string(), description: z.string() }),
          }),
        )
        .min(1),
    }),
  ),
});

test("alerts ask for metrics that there are", async () => {
  const { groups: parsed } = alerts.parse(parse(await read("deploy/prometheus/alerts.yml")));
  const rules = parsed.flatMap((group) => group.rules);
  for (const { expr } of rules) expect(expr).toMatch(/helmr_/);
  expect(rules.flatMap(({ expr }) => unknownMetrics(expr))).toEqual([]);
});
