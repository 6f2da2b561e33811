/**
 * API requests per second for get and list with 100,000 runs stored.
 *
 * One Node process sends on 16 connections to the control plane in this same process and machine: a lower bound of what the
 * server does alone. Not measured: TLS, a network.
 */

import { seedRuns, startApiOnly } from "./api-fixture.ts";
import { type BenchOptions, type Row, rateRow, sample, timed } from "./measure.ts";

const stored = 100_000;
const connections = 16;
const unmeasured = "caller in the same process; not: TLS, a network";

export async function benchApi({ quick }: BenchOptions): Promise<Row[]> {
  await using fixture = await startApiOnly();
  const ids = await seedRuns(fixture, stored);
  const get = async (path: string) => {
    const response = await fetch(`${fixture.url}/api${path}`, {
      headers: { authorization: `Bearer ${fixture.apiKey}` },
    });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    await response.arrayBuffer();
  };
  const rateOf = (path: (n: number) => string, total: number) =>
    sample(
      async () => {
        let next = 0;
        const sender = async () => {
          while (next < total) await get(path(next++));
        };
        const ms = await timed(() => Promise.all(Array.from({ length: connections }, sender)));
        return total / (ms / 1000);
      },
      quick ? 3 : 7,
      1,
    );
  const total = quick ? 500 : 2_000;
  return [
    rateRow(
      "api.get_run",
      await rateOf((n) => `/runs/${ids[(n * 7919) % ids.length]}`, total),
      `GET /runs/{id}, ${stored} runs stored; ${unmeasured}`,
    ),
    rateRow(
      "api.list_runs",
      await rateOf(() => "/runs?status=all&limit=20", total),
      `GET /runs?limit=20, ${stored} runs stored; ${unmeasured}`,
    ),
    rateRow(
      "api.counts",
      await rateOf(() => "/runs/counts", total),
      `GET /runs/counts, ${stored} runs stored; ${unmeasured}`,
    ),
  ];
}
