import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { DrainSummary, WorkerStatus } from "../status.ts";
import { askDrain, askStatus } from "./socket-client.ts";
import { progressText, statusText, summaryText, wasInterrupted } from "./status-text.ts";
import { FolderInUseError, openWorkerSocket, socketPath, type WorkerSocket } from "./worker-socket.ts";

const id = "01a215a4-ed41-7135-b96e-f4d11905243b";
const summary: DrainSummary = {
  runs: { finished: 1, parked: 2, handed_back: 0, lost: 0 },
  builds: { finished: 0, handed_back: 0 },
  copies: { saved: 1, unsaved: 0 },
  left: 0,
};
const capacity = { cpu: 8, memory_mib: 1024, disk_mib: 2048, slots: 4 };
const status: WorkerStatus = {
  worker_instance_id: id,
  name: "w",
  version: "0.1.0",
  pid: 2 ** 22 + 1,
  labels: {},
  state: "draining",
  since: "2026-01-01T00:00:00.000Z",
  drained_by_operator: false,
  drain: { phase: "draining", left_ms: 61_000 },
  control_plane: { url: "https://c", last_contact_at: "2026-01-01T00:00:00.000Z" },
  isolation: { driver: "gvisor", version: "1" },
  capacity: { total: capacity, free: { ...capacity, slots: 2 } },
  builds: { slots: 1, held: [] },
  pool: { guests: 0, memory_mib: 0 },
  disk: { dir: "/data", total_mib: 100, free_mib: 10, reserve_mib: 20, is_full: true },
  runs: [{ run_id: id, phase: "parking", age_ms: 90_061_000 }],
  copies: [{ materialization_id: id, workspace_id: id, phase: "live", age_ms: 5 }],
};

let folder: string;
let dataDir: string;
let socket: WorkerSocket | undefined;
let told = vi.fn(async () => status);
let drain = vi.fn(async (_timeoutMs: number | undefined) => summary);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "socket-"));
  dataDir = join(folder, "data");
  told = vi.fn(async () => status);
  drain = vi.fn(async () => summary);
});
afterEach(async () => {
  await socket?.close();
  socket = undefined;
  await rm(folder, { recursive: true });
});

const options = () => ({
  dataDir,
  status: () => told(),
  drain: (timeoutMs: number | undefined) => drain(timeoutMs),
  logger: pino({ level: "silent" }),
  progressMs: 5,
});
const open = async () => {
  socket = await openWorkerSocket(options());
};

async function send(method: string, path: string, body = ""): Promise<{ code?: number; body: string }> {
  const outgoing = request({ socketPath: socketPath(dataDir), method, path });
  const answer = new Promise<{ code?: number; body: string }>((resolve, reject) => {
    outgoing.once("error", reject);
    outgoing.once("response", async (response) => {
      const code = response.statusCode;
      resolve({ ...(code === undefined ? {} : { code }), body: await text(response) });
    });
  });
  outgoing.end(body);
  return await answer;
}

it("tells the status, and of a drain until it is done", async () => {
  await open();
  expect(await askStatus(dataDir)).toEqual(status);
  const { promise, resolve } = Promise.withResolvers<DrainSummary>();
  drain = vi.fn(() => promise);
  let heard = 0;
  const done = askDrain(dataDir, 600_000, () => {
    heard += 1;
    if (heard === 3) resolve(summary);
  });
  expect(await done).toEqual(summary);
  expect(drain).toHaveBeenCalledExactlyOnceWith(600_000);
});

it("is of its owner alone, and of one worker", async () => {
  await open();
  expect((await stat(socketPath(dataDir))).mode & 0o777).toBe(0o600);
  expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  await expect(openWorkerSocket(options())).rejects.toThrow(FolderInUseError);
  expect(await askStatus(dataDir)).toEqual(status);
});

it("takes over what a dead worker left", async () => {
  await open();
  await socket?.close();
  await writeFile(socketPath(dataDir), "");
  await open();
  expect(await askStatus(dataDir)).toEqual(status);
});

it("refuses what it does not know, or is too much, and begins no drain then", async () => {
  await open();
  expect(await send("GET", "/")).toMatchObject({ code: 404 });
  expect(await send("POST", "/status")).toMatchObject({ code: 404 });
  for (const body of ["", "[]", '{"timeout_ms":-1}', '{"timeout_ms":1e12}', '{"other":1}', "{".repeat(2000)])
    expect(await send("POST", "/drain", body), body.slice(0, 20)).toMatchObject({ code: 400 });
  expect(drain).not.toHaveBeenCalled();
  told = vi.fn(() => Promise.reject(new Error("the worker is starting")));
  await expect(askStatus(dataDir)).rejects.toThrow("the worker is starting");
  await expect(askDrain(dataDir, undefined, () => undefined)).rejects.toThrow("the worker is starting");
  expect(drain).not.toHaveBeenCalled();
});

it("a drain goes on when who asked for it goes away; a worker that dies in it is an error", async () => {
  await open();
  const { promise, resolve } = Promise.withResolvers<DrainSummary>();
  drain = vi.fn(() => promise);
  const outgoing = request({ socketPath: socketPath(dataDir), method: "POST", path: "/drain" });
  outgoing.on("error", () => undefined);
  outgoing.end("{}");
  await vi.waitUntil(() => drain.mock.calls.length === 1);
  outgoing.destroy();
  expect(await askStatus(dataDir)).toEqual(status);
  const failing = Promise.reject(new Error("gone"));
  failing.catch(() => undefined);
  drain = vi.fn(() => failing);
  await expect(askDrain(dataDir, undefined, () => undefined)).rejects.toThrow();
  resolve(summary);
});

it("says what to do where no worker runs, or the path is too long for a socket", async () => {
  await expect(askStatus(dataDir)).rejects.toThrow(`no worker runs on ${dataDir}; set HELMR_WORKER_DATA_DIR`);
  expect(() => socketPath(`/${"x".repeat(100)}`)).toThrow("HELMR_WORKER_DATA_DIR is too long");
});

it("texts", () => {
  const text = statusText(status, new Date("2026-01-01T02:00:05Z"));
  expect(text).toMatch(/^state +draining, 1m 1s left, for 2h$/m);
  expect(text).toMatch(/^slots +2 of 4 held, 2 free; builds 0 of 1$/m);
  expect(text).toContain("NEARLY FULL");
  expect(text).toMatch(/^run +01a215a4-\S+ +parking +1d 1h$/m);
  expect(progressText(status)).toBe(
    "draining: 1 run (1 parking), 0 builds, 1 live copy; what is left in 1m 1s is given back",
  );
  expect(summaryText(summary)).toContain("runs: 1 finished, 2 parked, 0 given back, 0 lost");
  expect(wasInterrupted(summary)).toBe(false);
  expect(wasInterrupted({ ...summary, left: 1 })).toBe(true);
  expect(wasInterrupted({ ...summary, copies: { saved: 0, unsaved: 1 } })).toBe(true);
});
