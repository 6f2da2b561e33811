/** An installation of the version before worker groups could be chosen: its workers stay in `default`, which has one id now. */
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sql } from "kysely";
import { expect, test } from "vitest";
import {
  authenticateWorker,
  claimRuns,
  defaultWorkerGroupId,
  getWorkerGroup,
  migrate,
  registerWorker,
  systemActor,
  updateWorkerGroup,
  uuidv7,
} from "../src/index.ts";
import { hashSecret } from "../src/workers/lifecycle.ts";
import { seedEnvironment, seedStartedSession, seedTask, startTestDatabase } from "../test-support/index.ts";

const migrations = new URL("../migrations/", import.meta.url);
const token = `hlmr_bt_${"t".repeat(43)}`;

test("the default group of before keeps its tokens, workers and work", async () => {
  const database = await startTestDatabase();
  const folder = await mkdtemp(join(tmpdir(), "helmr-migrations-"));
  try {
    for (const name of (await readdir(migrations)).filter((each) => each < "0006"))
      await cp(new URL(name, migrations), join(folder, name));
    const { db } = database;
    await sql`drop schema public cascade`.execute(db);
    await sql`create schema public`.execute(db);
    await migrate(db, { folder: pathToFileURL(`${folder}/`) });
    const [groupId, workerId, credential] = [uuidv7(), uuidv7(), "hlmr_wk_before"];
    await sql`insert into worker_groups (id, name) values (${groupId}, 'default')`.execute(db);
    await sql`insert into worker_bootstrap_tokens (id, worker_group_id, token_hash)
      values (${uuidv7()}, ${groupId}, ${hashSecret(token)})`.execute(db);
    await sql`insert into worker_instances (id, worker_group_id, name, credential_hash, state, version, capacity, capabilities)
      values (${workerId}, ${groupId}, 'w', ${hashSecret(credential)}, 'active', '0', '{"runs": 4}', '{}')`.execute(
      db,
    );

    await migrate(db);
    expect(await getWorkerGroup(db, "default")).toMatchObject({ id: defaultWorkerGroupId, active: 1 });
    const known = { workerInstanceId: workerId, workerGroupId: defaultWorkerGroupId };
    expect(await authenticateWorker(db, credential)).toEqual(known);
    const { scope } = await seedEnvironment(db);
    const { runId } = await seedStartedSession(db, scope, await seedTask(db, scope));
    const claim = { workerInstanceId: workerId, limit: 1, leaseDurationMs: 60_000 };
    expect((await claimRuns(db, claim)).map(({ id }) => id)).toEqual([runId]);
    const capacity = { runs: 1, builds: 1, cpu: 1, memory_mib: 1 };
    const again = { workerInstanceId: workerId, name: "w", version: "1", capacity, capabilities: {} };
    expect(await registerWorker(db, token, again)).toBeDefined();
    const operator = { actor: systemActor("test") };
    await expect(updateWorkerGroup(db, operator, "default", { name: "x" })).rejects.toThrow("keeps its name");
  } finally {
    await database.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
