/** `helmr-control`: how it starts, refuses to start and stops; and a rotation of the key as an operator does it. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes, apiPrefix } from "@helmr/api";
import { startRedis } from "@helmr/coordination/testing";
import {
  createApiKey,
  createSecretCipher,
  type Database,
  openDatabase,
  readSecretValues,
} from "@helmr/store";
import {
  type SeededEnvironment,
  seedEnvironment,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  helmrControl,
  type ServingControl,
  startControl,
  type Variables,
} from "./support/control-process.ts";

const newKey = () => randomBytes(32).toString("base64");

let database: TestDatabase;
let db: Database;
let folder: string;
let variables: Variables;
let serving: ServingControl | undefined;

beforeEach(async () => {
  database = await startTestDatabase();
  db = database.db;
  folder = await mkdtemp(join(tmpdir(), "helmr-control-"));
  variables = {
    HELMR_DATABASE_URL: database.url,
    HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
    HELMR_LISTEN: "127.0.0.1:0",
    HELMR_CAS_URI: `file://${folder}/artifacts`,
    HELMR_ARTIFACT_ENCRYPTION_KEY: newKey(),
    HELMR_SECRET_ENCRYPTION_KEY: newKey(),
    HELMR_AUTH_SECRET: newKey(),
  };
});
afterEach(async () => {
  serving?.signal("SIGKILL");
  await serving?.ended;
  serving = undefined;
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

const start = async (more: Variables = {}) => {
  serving = await startControl({ ...variables, ...more });
  return serving;
};

describe("helmr-control", () => {
  test("says what it can do, and every problem of its configuration at once", async () => {
    const help = await helmrControl(["--help"], {});
    expect(help.code).toBe(0);
    for (const word of ["serve", "migrate", "secrets", "HELMR_DATABASE_URL"])
      expect(help.stdout).toContain(word);
    const key = newKey();
    const wrong = await helmrControl([], { HELMR_SECRET_ENCRYPTION_KEY: `${key}x`, HELMR_LOG_LEVEL: "loud" });
    expect(wrong.code).toBe(2);
    expect(wrong.stderr.match(/HELMR_[A-Z_]+(?=:)/g)).toEqual([
      "HELMR_DATABASE_URL",
      "HELMR_PUBLIC_URL",
      "HELMR_CAS_URI",
      "HELMR_ARTIFACT_ENCRYPTION_KEY",
      "HELMR_SECRET_ENCRYPTION_KEY",
      "HELMR_AUTH_SECRET",
      "HELMR_LOG_LEVEL",
    ]);
    expect(wrong.stderr).not.toContain(key);
  });

  test("serves, writes no core files, and stops cleanly on SIGTERM and SIGINT", async () => {
    const control = await start();
    expect((await fetch(`${control.url}/readyz`)).status).toBe(200);
    const limits = await readFile(`/proc/${control.pid}/limits`, "utf8");
    expect(limits).toMatch(/Max core file size +0 +0 /);
    await control.stop();
    const again = await start();
    again.signal("SIGINT");
    expect(await again.ended).toMatchObject({ code: 0 });
  });

  test("ends at once at the second signal", async () => {
    const control = await start();
    // A request that holds the first one's clean stop: its body does not end.
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode("{")),
    });
    const held = fetch(`${control.url}${apiPrefix}/auth/device/token`, {
      method: "POST",
      body,
      duplex: "half",
    } as RequestInit).catch(() => undefined);
    await expect
      .poll(async () => (await fetch(`${control.url}/healthz`)).status, { timeout: 30_000 })
      .toBe(200);
    control.signal("SIGTERM");
    await expect.poll(() => control.output(), { timeout: 30_000 }).toContain('"stopping"');
    control.signal("SIGTERM");
    expect((await control.ended).code).toBe(143);
    await held;
  });

  test("refuses a schema that is behind, and one that is newer; migrate mends the first", async () => {
    await sql`drop schema public cascade`.execute(db);
    await sql`create schema public`.execute(db);
    const behind = await helmrControl(["serve"], variables);
    expect(behind).toMatchObject({ code: 1, stderr: expect.stringContaining("run `helmr-control migrate`") });
    for (const [flag, said, code] of [
      ["--dry-run", "would apply 0001_initial.sql", 0],
      ["--status", "missing  0001_initial.sql", 1],
    ] as const) {
      const told = await helmrControl(["migrate", flag], variables);
      expect(told).toMatchObject({ code, stdout: expect.stringContaining(said) });
    }
    const migrated = await helmrControl(["migrate"], variables);
    expect(migrated).toMatchObject({ code: 0, stdout: expect.stringContaining("applied 0001_initial.sql") });
    expect(await helmrControl(["migrate"], variables)).toMatchObject({
      code: 0,
      stdout: "the schema is up to date\n",
    });
    await (await start()).stop();
    await sql`insert into schema_migrations (name, sha256) values ('9999_later.sql', 'x')`.execute(db);
    for (const command of ["serve", "migrate"]) {
      const newer = await helmrControl([command], variables);
      expect(newer).toMatchObject({ code: 1, stderr: expect.stringContaining("belongs to a newer version") });
    }
  });

  test("says in one line that the database or the port is not to be had", async () => {
    const nowhere = await helmrControl(["serve"], {
      ...variables,
      HELMR_DATABASE_URL: "postgres://helmr:planted-password@127.0.0.1:1/helmr",
    });
    expect(nowhere.code).toBe(1);
    expect(nowhere.stderr).toContain("ECONNREFUSED");
    expect(`${nowhere.stdout}${nowhere.stderr}`).not.toContain("planted-password");
    const control = await start();
    const second = await helmrControl(["serve"], { ...variables, HELMR_LISTEN: new URL(control.url).host });
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining("EADDRINUSE") });
  });

  test("counts rates in the Redis it is given", async () => {
    const redis = await startRedis();
    try {
      const settings = { HELMR_REDIS_URL: redis.url };
      const poll = (control: ServingControl) =>
        fetch(`${control.url}${apiPrefix}/auth/device/token`, {
          method: "POST",
          body: JSON.stringify({ device_code: "x".repeat(43) }),
        });
      const keys = async () => (await redis.command("DBSIZE")).trim();
      const control = await start(settings);
      await expect
        .poll(async () => ((await poll(control)).status === 400 ? await keys() : ""), { timeout: 30_000 })
        .toBe(":1");
      await control.stop();
    } finally {
      await redis.stop();
    }
  });
});

describe("rotation of the key", () => {
  let environment: SeededEnvironment;
  let key: string;
  beforeEach(async () => {
    environment = await seedEnvironment(db);
    key = (await createApiKey(db, environment.scope, { name: "test", scopes: apiKeyScopes })).rawKey;
  });

  const set = async (control: ServingControl, name: string, value: string) => {
    const response = await fetch(`${control.url}${apiPrefix}/secrets/${name}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ value }),
    });
    expect(response.status).toBe(200);
  };

  const reencrypt = async (keys: Variables) => {
    const ended = await helmrControl(["secrets", "reencrypt", "--json"], { ...variables, ...keys });
    return { ...ended, result: JSON.parse(ended.stdout || "{}") as Record<string, number> };
  };

  test("while secrets are set: afterwards all are under the new key alone", async () => {
    const [first, second] = [newKey(), newKey()];
    let control = await start({ HELMR_SECRET_ENCRYPTION_KEY: first });
    for (let n = 0; n < 5; n += 1) await set(control, `S${n}`, `first ${n}`);
    await control.stop();

    const without = await helmrControl(["serve"], { ...variables, HELMR_SECRET_ENCRYPTION_KEY: second });
    expect(without).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/5 secrets are encrypted under key [0-9a-f]{8}, which is not configured/),
    });

    const both = { HELMR_SECRET_ENCRYPTION_KEY: second, HELMR_SECRET_ENCRYPTION_KEY_OLD: first };
    control = await start(both);
    expect(control.output()).toContain('"remaining":5');
    const meanwhile = Array.from({ length: 5 }, (_, n) => set(control, `S${n + 3}`, `second ${n + 3}`));
    const [{ code, result, stderr }] = await Promise.all([reencrypt(both), ...meanwhile]);
    expect(code, stderr).toBe(result.remaining_old_key_count === 0 ? 0 : 1);
    expect(await reencrypt(both)).toMatchObject({ code: 0, result: { remaining_old_key_count: 0 } });
    await control.stop();

    control = await start({ HELMR_SECRET_ENCRYPTION_KEY: second });
    await set(control, "S8", "third");
    const names = Array.from({ length: 9 }, (_, n) => `S${n}`);
    const expected = [0, 1, 2].map((n) => `first ${n}`);
    expected.push(...[3, 4, 5, 6, 7].map((n) => `second ${n}`), "third");
    const other = openDatabase({ url: database.url, maxConnections: 1 });
    const cipher = createSecretCipher({ current: second });
    const values = await readSecretValues(other, cipher, environment.scope.environmentId, names);
    await other.close();
    expect(names.map((name) => values.get(name))).toEqual(expected);
    for (const secret of [first, second]) expect(control.output()).not.toContain(secret);
    await control.stop();
  });

  test("without the old key it is said which key is missing, and nothing is changed", async () => {
    const control = await start();
    await set(control, "ONE", "value");
    await control.stop();
    const ended = await reencrypt({ HELMR_SECRET_ENCRYPTION_KEY: newKey() });
    expect(ended).toMatchObject({ code: 1, result: { reencrypted: 0, remaining_old_key_count: 1 } });
    expect(ended.stderr).toMatch(/ONE is encrypted under key [0-9a-f]{8}.*HELMR_SECRET_ENCRYPTION_KEY_OLD/);
  });
});
