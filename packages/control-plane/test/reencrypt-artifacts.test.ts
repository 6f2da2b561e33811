/** `helmr-control artifacts reencrypt`, as an operator rotates the key of what lies in the object store: a folder, and a bucket. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { type ArtifactStore, createFolderStore, parseArtifactKeys } from "@helmr/artifacts";
import { parseArchiveKeys, sealArchive } from "@helmr/artifacts/archive";
import { openS3Store } from "@helmr/artifacts/s3";
import { startS3, type TestS3 } from "@helmr/artifacts/testing";
import { startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { helmrControl, type Variables } from "./support/control-process.ts";

const newKey = () => randomBytes(32).toString("base64");
const bytesOf = (n: number) => Buffer.from(`artifact ${n}`);

let database: TestDatabase;
let folder: string;
let s3: TestS3;
beforeAll(async () => {
  database = await startTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "helmr-reencrypt-"));
  s3 = await startS3();
});
afterAll(async () => {
  await s3.stop();
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

type Open = (key?: string) => Promise<ArtifactStore>;
const places: Record<string, () => { open: Open; root: string; variables: Variables }> = {
  folder: () => ({
    open: async (key) =>
      createFolderStore(join(folder, "store"), {
        keys: key ? parseArtifactKeys({ current: key }) : undefined,
      }),
    root: join(folder, "store"),
    variables: { HELMR_CAS_URI: `file://${folder}/store` },
  }),
  bucket: () => ({
    open: (key) =>
      openS3Store({
        bucket: s3.bucket,
        prefix: "installation",
        endpoint: s3.endpoint,
        region: "us-east-1",
        forcePathStyle: true,
        credentials: s3.credentials,
        stagingDir: join(folder, "staging"),
        keys: key ? parseArtifactKeys({ current: key }) : undefined,
      }),
    root: join(s3.bucketFolder, "installation"),
    variables: { ...s3.environment, HELMR_ARTIFACT_STAGING_DIR: join(folder, "staging") },
  }),
};

test.each(Object.keys(places))("%s: afterwards everything opens under the new key alone", async (place) => {
  const { open, root, variables } = (places[place] as (typeof places)[string])();
  const [first, second] = [newKey(), newKey()];
  const put = async (store: ArtifactStore, bytes: Buffer) =>
    (await store.put(Readable.from([bytes]), { maxBytes: bytes.length })).digest;
  const unsealed = await open();
  const before = await open(first);
  const digests = [await put(unsealed, bytesOf(0)), await put(unsealed, Buffer.alloc(0))];
  for (let n = 1; n <= 20; n += 1) digests.push(await put(before, bytesOf(n)));
  const archive = sealArchive([{ name: "state", kind: "json", value: 1 }], {
    keys: parseArchiveKeys({ current: newKey() }),
  });
  const checkpoint = (await before.put(archive.stream, { maxBytes: 10_000, sealed: true })).digest;
  const after = await open(second);
  digests.push(await put(after, bytesOf(21)));
  const fileOf = (digest: string) => join(root, "sha256", digest.slice(7, 9), digest.slice(7));
  const checkpointBytes = await readFile(fileOf(checkpoint));

  const reencrypt = async (keys: Variables) => {
    const ended = await helmrControl(["artifacts", "reencrypt", "--json"], {
      HELMR_DATABASE_URL: database.url,
      ...variables,
      ...keys,
    });
    return { ...ended, result: JSON.parse(ended.stdout || "{}") as unknown };
  };

  const tooEarly = await reencrypt({ HELMR_ARTIFACT_ENCRYPTION_KEY: second });
  const firstId = parseArtifactKeys({ current: first }).currentId;
  expect(tooEarly.result).toEqual({
    reencrypted: 2,
    current_key_count: 3,
    remaining_old_key_count: 20,
    remaining_by_key: { [firstId]: 20 },
  });
  expect(tooEarly.code).toBe(1);
  expect(tooEarly.stderr).toMatch(/sealed under key [0-9a-f]{8}.*HELMR_ARTIFACT_ENCRYPTION_KEY_OLD/);
  expect(`${tooEarly.stdout}${tooEarly.stderr}`).not.toContain(second);

  const both = { HELMR_ARTIFACT_ENCRYPTION_KEY: second, HELMR_ARTIFACT_ENCRYPTION_KEY_OLD: first };
  const { code, result, stderr } = await reencrypt(both);
  expect([code, stderr]).toEqual([0, ""]);
  expect(result).toMatchObject({ reencrypted: 20, current_key_count: 23, remaining_old_key_count: 0 });
  for (const digest of digests) await buffer(await after.get(digest));
  expect(await readFile(fileOf(checkpoint))).toEqual(checkpointBytes);
  expect(await reencrypt(both)).toMatchObject({
    code: 0,
    result: { reencrypted: 0, remaining_old_key_count: 0 },
  });
  for (const digest of digests) expect((await readFile(fileOf(digest))).includes("artifact ")).toBe(false);

  // One that is damaged is named, counted, and does not stop the others.
  const damaged = await put(unsealed, Buffer.from("unsealed, and then changed"));
  await writeFile(fileOf(damaged), "unsealed, and then Changed");
  const later = await put(unsealed, bytesOf(22));
  const last = await reencrypt(both);
  expect(last).toMatchObject({ code: 1, result: { reencrypted: 1, remaining_by_key: { none: 1 } } });
  expect(last.stderr).toContain(damaged);
  expect(await buffer(await after.get(later))).toEqual(bytesOf(22));
});
