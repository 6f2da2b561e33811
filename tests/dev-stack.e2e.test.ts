/** `helmr dev` over its life: stop, start again, kill -9, reset; and what it leaves on the machine: nothing. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HelmrClient } from "@helmr/sdk";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { helmr, repositoryRoot } from "./support/cli.ts";
import { type DevProcess, startDevProcess } from "./support/dev-process.ts";

let dataDir: string;
let stack: DevProcess | undefined;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "helmr-dev-test-"));
});
afterEach(async () => {
  await stack?.end("SIGTERM");
  stack = undefined;
  await rm(dataDir, { recursive: true, force: true });
}, 90_000);

const envOf = (dev: DevProcess) => ({ HELMR_API_URL: dev.url, HELMR_API_KEY: dev.api_key });
const clientOf = (dev: DevProcess) => new HelmrClient({ url: dev.url, apiKey: dev.api_key });

async function deployBehavioursTo(dev: DevProcess): Promise<void> {
  const result = await helmr(["deploy", join(repositoryRoot, "tests/fixtures/behaviours")], {
    env: envOf(dev),
    timeoutMs: 300_000,
  });
  expect(result.exitCode, `${result.stdout}\n${result.stderr}`).toBe(0);
}

async function isParked(dev: DevProcess | undefined, runId: string): Promise<boolean> {
  if (dev === undefined) return false;
  const response = await fetch(`${dev.url}/api/runs/${runId}/events`, {
    headers: { authorization: `Bearer ${dev.api_key}` },
  });
  const { events } = (await response.json()) as { events: { kind: string }[] };
  return events.at(-1)?.kind === "run.parked";
}

/** Processes whose command line or working folder names the data folder, and mounts below it. */
async function leftovers(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (line.includes(dataDir)) found.push(`process ${pid}: ${line.replaceAll("\0", " ")}`);
  }
  const mounts = await readFile("/proc/self/mounts", "utf8");
  found.push(...mounts.split("\n").filter((line) => line.includes(dataDir)));
  return found;
}

describe("helmr dev", () => {
  it("continues where it was after a clean stop, and leaves nothing running", async () => {
    stack = await startDevProcess(dataDir);
    await deployBehavioursTo(stack);
    const done = await clientOf(stack).sessions.startAndWait("counts-visits", {}, { timeoutSeconds: 60 });
    expect(done.run.output).toBe(1);
    expect(await stack.end("SIGINT")).toBe(0);
    expect(await leftovers()).toEqual([]);

    const key = stack.api_key;
    stack = await startDevProcess(dataDir);
    expect(stack.api_key).toBe(key);
    const workspaceId = String(done.session.workspaceId);
    const again = await clientOf(stack).sessions.startAndWait(
      "counts-visits",
      {},
      { workspaceId, timeoutSeconds: 60 },
    );
    expect(again.run.output).toBe(2);
  }, 400_000);

  it("recovers by itself after kill -9: the run that was executing ends, nothing stays behind", async () => {
    stack = await startDevProcess(dataDir);
    await deployBehavioursTo(stack);
    const client = clientOf(stack);
    const started = await client.sessions.start("one-at-a-time", {});
    const stuck = await client.sessions.start("ignores-cancel", {});
    for await (const event of client.runs.events.subscribe(stuck.run.id)) if (event.type === "log") break;
    await stack.end("SIGKILL");

    stack = await startDevProcess(dataDir);
    const after = clientOf(stack);
    const first = await after.runs.wait(started.run.id, { timeoutMs: 120_000 });
    expect(["succeeded", "failed"]).toContain(first.status);
    await after.runs.cancel(stuck.run.id, { force: true, reason: "test is over" });
    const second = await after.runs.wait(stuck.run.id, { timeoutMs: 120_000 });
    expect(["cancelled", "failed"]).toContain(second.status);
    expect(await stack.end("SIGTERM")).toBe(0);
    expect(await leftovers()).toEqual([]);
  }, 400_000);

  it("goes on with a parked run after a restart, and after kill -9: the same process, the same memory", async () => {
    stack = await startDevProcess(dataDir);
    await deployBehavioursTo(stack);
    const { run } = await clientOf(stack).sessions.start("sleeps", { seconds: 45 });
    await vi.waitUntil(async () => await isParked(stack, run.id), { timeout: 60_000, interval: 250 });
    expect(await stack.end("SIGTERM")).toBe(0);
    stack = await startDevProcess(dataDir);
    expect(await isParked(stack, run.id)).toBe(true);
    await stack.end("SIGKILL");

    stack = await startDevProcess(dataDir);
    const done = await clientOf(stack).runs.wait(run.id, { timeoutMs: 120_000 });
    expect(done.output).toMatchObject({ ok: true, samePid: true });
    expect(done.attemptNumber).toBe(1);
    expect(await stack.end("SIGTERM")).toBe(0);
    expect(await leftovers()).toEqual([]);
  }, 400_000);

  it("starts clean with --reset, also over what a killed stack left", async () => {
    stack = await startDevProcess(dataDir);
    const key = stack.api_key;
    await stack.end("SIGKILL");
    stack = await startDevProcess(dataDir, ["--reset"]);
    expect(stack.api_key).not.toBe(key);
    const sessions = await clientOf(stack).sessions.list({ status: "all" });
    expect(sessions).toEqual([]);
  }, 400_000);

  it("says who holds the folder, or the port, when it is started twice", async () => {
    stack = await startDevProcess(dataDir);
    const second = await helmr(["dev", "--data-dir", dataDir], { timeoutMs: 60_000 });
    expect(second.exitCode).not.toBe(0);
    expect(second.stderr).toMatch(/another helmr dev is running/);
    const elsewhere = join(dataDir, "second");
    const { port } = new URL(stack.url);
    const third = await helmr(["dev", "--data-dir", elsewhere, "--port", port], { timeoutMs: 120_000 });
    expect(third.exitCode).toBe(1);
    expect(third.stderr).toContain(`error: the port ${port} is in use; choose another with --port`);
    expect(third.stderr).not.toContain("HELMR_DEBUG");
  }, 400_000);
});
