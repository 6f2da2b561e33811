/** The installation's key is replaced while runs use a secret under it. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HelmrClient } from "@helmr/sdk";
import { execa } from "execa";
import { afterEach, beforeEach, expect, it } from "vitest";
import { repositoryRoot } from "./support/cli.ts";
import { type DevProcess, startDevProcess } from "./support/dev-process.ts";
import { deploySecretProject, hashesOf } from "./support/secret-project.ts";

let dataDir: string;
let stack: DevProcess | undefined;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "helmr-rotation-"));
});
afterEach(async () => {
  await stack?.end("SIGTERM");
  stack = undefined;
  await rm(dataDir, { recursive: true, force: true });
}, 90_000);

interface Keys {
  readonly secretEncryptionKey: string;
  readonly secretEncryptionKeyOld?: string | undefined;
}

/** Stop, change the keys of the stack's state, start again. */
async function restartWith(change: (keys: Keys) => Keys): Promise<{ keys: Keys; client: HelmrClient }> {
  if (stack !== undefined) expect(await stack.end("SIGTERM")).toBe(0);
  const file = join(dataDir, "state.json");
  const state = JSON.parse(await readFile(file, "utf8")) as Keys;
  const keys = change(state);
  await writeFile(file, JSON.stringify({ ...state, ...keys }), { mode: 0o600 });
  stack = await startDevProcess(dataDir);
  return { keys, client: new HelmrClient({ url: stack.url, apiKey: stack.api_key }) };
}

/** `helmr-control secrets reencrypt` on the stack's own database. */
async function reencrypt(keys: Keys): Promise<Record<string, unknown>> {
  const socketFolder =
    (await readFile(join(dataDir, "postgres/postmaster.pid"), "utf8")).split("\n")[4] ?? "";
  const { stdout } = await execa(
    process.execPath,
    [join(repositoryRoot, "packages/control-plane/bin/helmr-control.mjs"), "secrets", "reencrypt", "--json"],
    {
      timeout: 60_000,
      env: {
        HELMR_DATABASE_URL: `postgresql://helmr@localhost/helmr?host=${encodeURIComponent(socketFolder)}`,
        HELMR_SECRET_ENCRYPTION_KEY: keys.secretEncryptionKey,
        HELMR_SECRET_ENCRYPTION_KEY_OLD: keys.secretEncryptionKeyOld ?? "",
      },
    },
  );
  return JSON.parse(stdout) as Record<string, unknown>;
}

it("runs before, while and after have the secret; in the end the old key is needed for nothing", async () => {
  const value = `value-${randomBytes(16).toString("hex")}`;
  stack = await startDevProcess(dataDir);
  await deploySecretProject(stack, value);

  const { keys, client } = await restartWith((old) => ({
    secretEncryptionKey: randomBytes(32).toString("base64"),
    secretEncryptionKeyOld: old.secretEncryptionKey,
  }));
  const held = await client.sessions.start("holds-secrets", {});
  for await (const event of client.runs.events.subscribe(held.run.id)) if (event.type === "log") break;
  const meanwhile = client.sessions.startAndWait("holds-secrets", {}, { timeoutSeconds: 180 });
  expect(await reencrypt(keys)).toEqual({ reencrypted: 1, remaining_old_key_count: 0 });
  const first = await client.runs.wait(held.run.id, { timeoutMs: 180_000 });
  expect(first).toMatchObject({ status: "succeeded", output: hashesOf(value) });
  expect((await meanwhile).run).toMatchObject({ status: "succeeded", output: hashesOf(value) });

  const after = await restartWith(({ secretEncryptionKey }) => ({
    secretEncryptionKey,
    secretEncryptionKeyOld: undefined,
  }));
  const last = await after.client.sessions.startAndWait("holds-secrets", {}, { timeoutSeconds: 180 });
  expect(last.run).toMatchObject({ status: "succeeded", output: hashesOf(value) });
}, 600_000);
