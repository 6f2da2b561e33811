/**
 * An upgrade under load: two control planes behind a load balancer, a migration of a later version, and each is restarted
 * after it. Nobody sees a failed request; followers and workers that wait go on.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes } from "@helmr/api";
import { createMemoryBus } from "@helmr/coordination";
import { createApiKey, migrate } from "@helmr/store";
import {
  laterVersion,
  type SeededEnvironment,
  seedEnvironment,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type ServingControl, startControl } from "./support/control-process.ts";
import { type ReadyProxy, startReadyProxy } from "./support/ready-proxy.ts";
import { leaseRun } from "./support/runs.ts";
import { openStream } from "./support/sse.ts";

const limit = { timeout: 120_000, interval: 20 };
const clients = 6;
const followers = 2;
const workers = 2;

let database: TestDatabase;
let folder: string;
let proxy: ReadyProxy;
let environment: SeededEnvironment;
let key: string;
let bootstrapToken: string;
const serving = new Set<ServingControl>();
let variables: Record<string, string>;

beforeEach(async () => {
  database = await startTestDatabase();
  environment = await seedEnvironment(database.db);
  await seedTask(database.db, environment.scope);
  key = (await createApiKey(database.db, environment.scope, { name: "test", scopes: apiKeyScopes })).rawKey;
  folder = await mkdtemp(join(tmpdir(), "helmr-rolling-"));
  proxy = await startReadyProxy();
  bootstrapToken = randomBytes(32).toString("hex");
  variables = {
    HELMR_DATABASE_URL: database.url,
    HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
    HELMR_LISTEN: "127.0.0.1:0",
    HELMR_CAS_URI: `file://${folder}/artifacts`,
    HELMR_ARTIFACT_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    HELMR_SECRET_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    HELMR_AUTH_SECRET: randomBytes(32).toString("base64"),
    HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrapToken,
    // The balancer asks 20 times a second; the rest is for a machine that does other things.
    HELMR_SHUTDOWN_DELAY: "4s",
  };
});
afterEach(async () => {
  await proxy.stop();
  for (const control of serving) {
    control.signal("SIGKILL");
    await control.ended;
  }
  serving.clear();
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

async function startOne(): Promise<ServingControl> {
  const control = await startControl(variables);
  serving.add(control);
  proxy.add(control.url);
  await vi.waitUntil(() => proxy.isReady(control.url), limit);
  return control;
}

/** Resolves when it has exited with 0. */
async function stopOne(control: ServingControl): Promise<void> {
  await control.stop();
  serving.delete(control);
  proxy.remove(control.url);
}

async function call(bearer: string, method: string, path: string, body?: unknown, signal?: AbortSignal) {
  const response = await fetch(`${proxy.url}/api${path}`, {
    method,
    signal: signal ?? null,
    headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  // biome-ignore lint/suspicious/noExplicitAny: the test reads members of several answers
  return (text === "" ? {} : JSON.parse(text)) as any;
}

test("two control planes are replaced one after the other while a later version's migration comes", async () => {
  let [first, second] = await Promise.all([startOne(), startOne()]);
  const done = new AbortController();
  const counts = { requests: 0, polls: 0, streams: 0 };
  const { id: followed } = (await call(key, "POST", "/sessions", { task_id: "hello" })).run;

  const client = async () => {
    while (!done.signal.aborted) {
      const { session, run } = await call(key, "POST", "/sessions", { task_id: "hello", payload: { n: 1 } });
      await call(key, "GET", `/sessions/${session.id}`);
      await call(key, "POST", `/runs/${run.id}/cancel`, {});
      await call(key, "POST", "/sessions/start-and-wait", { task_id: "hello", timeout_seconds: 1 });
      counts.requests += 4;
    }
  };
  const bus = createMemoryBus();
  const run = await leaseRun({ db: database.db, bus, environment }, followed);
  let written = 0;
  const writer = async () => {
    for (; !done.signal.aborted; written += 1) await run.log("stdout", `${written}`);
    await run.finish();
  };
  const seen: string[][] = Array.from({ length: followers }, () => []);
  /** Reads on from the last event that it has, whenever its stream ends, until the run has ended. */
  const follower = async (mine: string[]) => {
    for (let ended = false; !ended; counts.streams += 1) {
      const path = `${proxy.url}/api/runs/${followed}/events?follow=1&cursor=${mine.length}`;
      const stream = await openStream(path, key);
      if (stream.response.status !== 200) throw new Error(`follow: ${stream.response.status}`);
      for await (const { id, data } of stream.frames) {
        mine.push(id);
        ended = data.kind === "run.completed";
      }
    }
  };
  /** Its polls are held, as there are no builds; a stop ends them. */
  const worker = async () => {
    const capacity = { runs: 1, builds: 1, cpu: 2, memory_mib: 4096 };
    const limits = { cpu: true, memory: true, disk: false };
    const capabilities = {
      driver: "gvisor",
      driver_version: "1",
      architecture: "x64",
      limits,
      network: true,
    };
    const { credential } = await call(bootstrapToken, "POST", "/worker/v1/register", {
      protocol: "helmr.worker.v1",
      worker_instance_id: randomUUID(),
      name: "w",
      version: "0.1.0",
      capacity,
      capabilities,
    });
    while (!done.signal.aborted) {
      const wanted = { max_runs: 0, max_builds: 1, wait_ms: 30_000 };
      await call(credential, "POST", "/worker/v1/lease", wanted, done.signal).catch((error: unknown) => {
        if (!done.signal.aborted) throw error;
      });
      counts.polls += 1;
    }
  };
  const load = [
    ...Array.from({ length: clients }, client),
    writer(),
    ...seen.map(follower),
    ...Array.from({ length: workers }, worker),
  ];
  const all = Promise.all(load);
  all.catch(() => done.abort());

  const underLoad = async () => {
    const before = counts.requests;
    await vi.waitUntil(() => done.signal.aborted || counts.requests >= before + 20, limit);
  };
  try {
    await underLoad();
    await using later = await laterVersion(`-- compatible-with: 0005
      alter table runs add column later integer;
      alter table sessions add column later text not null default '';
      alter table run_events add column later text;
      alter table workspaces add column later text;`);
    expect(await migrate(database.db, { folder: later.folder })).toEqual({ applied: [later.name] });
    await underLoad();
    // Started again by the version that does not know the migration, as after a crash in the middle of the upgrade.
    const stopping = stopOne(first);
    first = await startOne();
    await stopping;
    await underLoad();
    await stopOne(second);
    second = await startOne();
    await underLoad();
  } finally {
    done.abort();
  }
  await all;
  expect(proxy.failures).toEqual([]);
  expect(first.output()).toContain("9999_later.sql");
  // Four events beside the lines: created, leased, started, completed.
  for (const mine of seen) expect(mine).toEqual(Array.from({ length: written + 4 }, (_, n) => `${n + 1}`));
  expect(counts.streams).toBeGreaterThan(followers);
  expect(counts.polls).toBeGreaterThan(workers);
  const { rows } = await sql<{ n: number }>`select count(*) as n from runs`.execute(database.db);
  expect(rows[0]?.n).toBe(1 + counts.requests / 2);
});
