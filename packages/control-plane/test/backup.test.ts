/**
 * The restore of deploy/README.md: a base backup of the database while it is written to, the objects after it, and another
 * installation from both, with the same keys.
 */
import { randomBytes } from "node:crypto";
import { chmod, cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes } from "@helmr/api";
import { createApiKey, type EmbeddedPostgres, openDatabase, startEmbeddedPostgres } from "@helmr/store";
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { execa } from "execa";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { helmrControl, type ServingControl, startControl } from "./support/control-process.ts";

let folder: string;
let postgres: EmbeddedPostgres | undefined;
let control: ServingControl | undefined;
const newKey = () => randomBytes(32).toString("base64");

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-backup-"));
  await chmod(folder, 0o711); // The database server is another user.
});
afterEach(async () => {
  control?.signal("SIGKILL");
  await control?.ended;
  await postgres?.stop();
  control = undefined;
  postgres = undefined;
  await rm(folder, { recursive: true, force: true });
});

/** As an archiving tool does: the files between start and stop, what stop says, and the log up to there. */
async function backUpDatabase(url: string, from: string, to: string): Promise<void> {
  const db = openDatabase({ url, maxConnections: 1 });
  try {
    await db.connection().execute(async (session) => {
      await sql`select pg_backup_start('test', true)`.execute(session);
      // Files may go while they are copied.
      await execa("cp", ["-a", from, to], { reject: false });
      const { rows } = await sql<{ labelfile: string }>`select labelfile from pg_backup_stop(false)`.execute(
        session,
      );
      await execa("cp", ["-a", `${from}/pg_wal/.`, `${to}/pg_wal/`], { reject: false });
      await writeFile(join(to, "backup_label"), rows[0]?.labelfile ?? "");
      await execa("chown", ["--reference", join(to, "PG_VERSION"), join(to, "backup_label")]);
    });
  } finally {
    await db.close();
  }
  await rm(join(to, "postmaster.pid"), { force: true });
}

test("a backup under load, restored: what was acknowledged before it is there, and work goes on", async () => {
  const [data, artifacts] = [join(folder, "data"), join(folder, "artifacts")];
  postgres = await startEmbeddedPostgres({ dataDir: data, durable: true });
  const variables = (databaseUrl: string, objects: string) => ({
    ...keys,
    HELMR_DATABASE_URL: databaseUrl,
    HELMR_CAS_URI: `file://${objects}`,
    HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
    HELMR_LISTEN: "127.0.0.1:0",
  });
  const keys = {
    HELMR_SECRET_ENCRYPTION_KEY: newKey(),
    HELMR_AUTH_SECRET: newKey(),
    HELMR_ARTIFACT_ENCRYPTION_KEY: newKey(),
  };
  expect(await helmrControl(["migrate"], variables(postgres.url, artifacts))).toMatchObject({ code: 0 });
  const db = openDatabase({ url: postgres.url, maxConnections: 2 });
  const { scope } = await seedEnvironment(db);
  await seedTask(db, scope);
  const { rawKey } = await createApiKey(db, scope, { name: "test", scopes: apiKeyScopes });
  await db.close();
  control = await startControl(variables(postgres.url, artifacts));
  let { url } = control;

  const send = (method: string, path: string, body?: string | Uint8Array<ArrayBuffer>) =>
    fetch(`${url}/api${path}`, {
      method,
      headers: { authorization: `Bearer ${rawKey}` },
      body: body ?? null,
    });
  const json = async (method: string, path: string, body?: object) => {
    const answer = await send(method, path, body && JSON.stringify(body));
    expect(answer.ok, `${method} ${path}: ${answer.status}`).toBe(true);
    // biome-ignore lint/suspicious/noExplicitAny: answers of several shapes
    return (await answer.json()) as any;
  };
  const filePath = (workspace: string) => `/workspaces/${workspace}/files/content?path=notes%2Fone.bin`;
  const written: { session: unknown; workspace: string; bytes: Buffer }[] = [];
  const writeOne = async () => {
    const { session } = await json("POST", "/sessions", { task_id: "hello", payload: { n: written.length } });
    const { workspace } = await json("POST", "/workspaces", { sandbox_id: "box" });
    const bytes = randomBytes(50_000);
    const put = await send("PUT", filePath(workspace.id), new Uint8Array(bytes));
    expect(put.ok).toBe(true);
    written.push({
      session: await json("GET", `/sessions/${session.id}`),
      workspace: workspace.id,
      bytes,
    });
  };
  await json("PUT", "/secrets/TOKEN", { value: "kept" });
  for (let n = 0; n < 3; n += 1) await writeOne();

  const before = written.length;
  let done = false;
  const writing = (async () => {
    while (!done) await writeOne();
  })();
  await vi.waitUntil(() => written.length > before, { timeout: 60_000, interval: 20 });
  const acknowledged = written.length;
  const restored = join(folder, "restored");
  const objects = join(folder, "restored-artifacts");
  await backUpDatabase(postgres.url, data, restored);
  await cp(artifacts, objects, { recursive: true, preserveTimestamps: true });
  done = true;
  await writing;
  control.signal("SIGKILL");
  await control.ended;
  await postgres.stop();
  await Promise.all([data, artifacts].map((path) => rm(path, { recursive: true })));

  postgres = await startEmbeddedPostgres({ dataDir: restored, durable: true });
  control = await startControl(variables(postgres.url, objects));
  ({ url } = control);
  for (const { session, workspace, bytes } of written.slice(0, acknowledged)) {
    expect(await json("GET", `/sessions/${(session as { id: string }).id}`)).toEqual(session);
    const read = await send("GET", filePath(workspace));
    expect(Buffer.from(await read.arrayBuffer()).equals(bytes)).toBe(true);
  }
  expect((await json("GET", "/secrets")).secrets).toMatchObject([{ name: "TOKEN" }]);
  await writeOne();
  await control.stop();
});
