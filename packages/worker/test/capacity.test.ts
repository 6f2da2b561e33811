/** What a worker has room for, its credential, and an operator's drain. */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createWorkspaceDisk, mountDisk, unmountDisk } from "@helmr/isolation";
import { createSecretCipher, putSecret } from "@helmr/store";
import { execa } from "execa";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Front } from "./support/front.ts";
import { type StartedRun, System } from "./support/system.ts";
import { TestWorkspace } from "./support/workspace.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;

beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
  const builder = await system.worker();
  await system.deploy(workspaceTasks);
  await builder.stop();
});
afterEach(() => system.stopWorkers());
afterAll(() => system.stop());

const ready = (run: StartedRun) => system.until(async () => (await system.stdout(run)).includes("here"));

async function end(run: StartedRun): Promise<void> {
  const workspace = await TestWorkspace.of(system, run);
  await workspace.start("touch go");
  expect((await system.finished(run)).status).toBe("succeeded");
}

/** The worker that is up, as the control plane knows it. */
async function workerRow() {
  const rows = await system.db
    .selectFrom("worker_instances")
    .selectAll()
    .orderBy("registered_at", "desc")
    .execute();
  const [row] = rows;
  if (row === undefined) throw new Error("no worker has registered");
  return row;
}

describe("room", () => {
  it("idle guests give way to runs, and what does not fit waits", async () => {
    const { worker } = await system.worker({
      capacity: { runs: 8, builds: 1, cpu: 32, memoryMib: 1100, diskMib: 1_000_000 },
      pool: { perSandbox: 2, maxGuests: 2 },
    });
    const first = await system.run("stays");
    await ready(first);
    await system.until(async () => (await worker.status()).pool.guests === 1);
    expect((await worker.status()).capacity.free.memory_mib).toBe(1100 - 512);
    const second = await system.run("stays");
    await ready(second);
    const third = await system.run("stays");
    await system.until(async () => (await worker.status()).pool.guests === 0);
    expect((await worker.status()).capacity.free).toMatchObject({ memory_mib: 1100 - 1024, slots: 14 });
    expect((await system.row(third)).status).toBe("queued");
    await end(first);
    await ready(third);
    await Promise.all([end(second), end(third)]);
  });

  it("nothing new is taken while the disk is nearly full, and it is when there is room again", async () => {
    const folder = await mkdtemp(join(tmpdir(), "small-disk-"));
    const [disk, mounted] = [join(folder, "disk"), join(folder, "mounted")];
    await createWorkspaceDisk({ path: disk, sizeMib: 2048, loopDevices: true });
    await mkdir(mounted, { recursive: true });
    await mountDisk(disk, mounted);
    try {
      const { worker, stop } = await system.worker({
        dir: mounted,
        diskReserveMib: 600,
        capacity: { runs: 4, builds: 1, cpu: 32, memoryMib: 8192, diskMib: 1_000_000 },
      });
      const held = await system.run("stays");
      await ready(held);
      await execa("fallocate", ["-l", "1600M", join(mounted, "filler")]);
      await system.until(async () => (await worker.status()).disk.is_full);
      const late = await system.run("writes");
      // It is told with a heartbeat, and what runs goes on.
      await system.until(async () => {
        const { capacity_free: free } = await workerRow();
        return (free as { disk_mib?: number } | null)?.disk_mib === 0;
      });
      await end(held);
      expect((await system.row(late)).status).toBe("queued");
      await rm(join(mounted, "filler"));
      expect((await system.finished(late)).status).toBe("succeeded");
      expect((await worker.status()).disk.is_full).toBe(false);
      await stop();
    } finally {
      await system.stopWorkers();
      await unmountDisk(mounted);
      await rm(folder, { recursive: true });
    }
  });
});

describe("an operator's drain", () => {
  const setDrain = (isWanted: boolean) =>
    sql`update worker_instances set drain_requested_at = ${isWanted ? sql`now()` : null},
      state = ${isWanted ? "draining" : "active"}`.execute(system.db);

  it("parks what waits and takes nothing new, and work is taken again when it is over", async () => {
    const { worker } = await system.worker({ parkAfterMs: 3_600_000 });
    const waiting = await system.run("waits");
    await system.awaitedToken(waiting);
    await setDrain(true);
    await system.parked(waiting);
    await system.until(async () => (await worker.status()).state === "drained");
    expect(await worker.status()).toMatchObject({ drained_by_operator: true, runs: [] });
    const late = await system.run("writes");
    await setDrain(false);
    expect((await system.finished(late)).status).toBe("succeeded");
    expect(await worker.status()).toMatchObject({ drained_by_operator: false, state: "working" });
    await system.complete(await system.awaitedToken(waiting), "yes");
    expect((await system.finished(waiting)).output).toMatchObject({ answer: "yes" });
    // Its own drain is for good.
    await worker.drain();
    await system.until(async () => (await workerRow()).state === "draining");
    expect(await worker.status()).toMatchObject({ state: "drained", drained_by_operator: false });
  });
});

describe("the credential", () => {
  it("is replaced while a run goes on, also when the answer is lost", async () => {
    const front = new Front();
    front.target = system.url;
    let lost = 0;
    let rotations = 0;
    front.loses = (path) => {
      if (!path.endsWith("/rotate-credential")) return false;
      rotations += 1;
      if (rotations % 2 === 0) return false;
      lost += 1;
      return true;
    };
    try {
      await system.worker({ controlPlaneUrl: await front.start(), credentialRotationMs: 200 });
      const { credential_hash: before } = await workerRow();
      const run = await system.run("stays");
      await ready(run);
      const from = rotations;
      await system.until(async () => rotations >= from + 6);
      await end(run);
      expect(lost).toBeGreaterThanOrEqual(2);
      expect(Buffer.compare((await workerRow()).credential_hash, before)).not.toBe(0);
      expect((await system.row(run)).lost_count).toBe(0);
      await system.stopWorkers();
    } finally {
      await front.stop();
    }
  });

  it("that is not known any more is followed by a registration: what ran begins anew", async () => {
    await system.worker();
    const run = await system.run("stays");
    await ready(run);
    const { id, registered_at: before } = await workerRow();
    // As an operator revokes it.
    await sql`update worker_instances set credential_hash = ${randomBytes(32)}, previous_credential_hash = null
      where id = ${id}`.execute(system.db);
    await system.until(async () => (await workerRow()).registered_at > before);
    await system.until(async () => (await system.stdout(run)).split("here").length === 3);
    await end(run);
  });
});
