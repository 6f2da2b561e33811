/** A run with a workspace parks at one worker and goes on at another, and all they share is a bucket, in which nothing is in plain. */
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { ArtifactStore } from "@helmr/artifacts";
import { openS3Store } from "@helmr/artifacts/s3";
import { startS3, type TestS3 } from "@helmr/artifacts/testing";
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, beforeAll, expect, it } from "vitest";
import { artifactKeys } from "./support/artifact-keys.ts";
import { System } from "./support/system.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let s3: TestS3;
let system: System;
beforeAll(async () => {
  s3 = await startS3();
  system = await System.start({ openArtifacts: (dir) => inBucket(join(dir, "staging")) });
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "value");
});
afterAll(async () => {
  await system?.stop();
  await s3?.stop();
});

function inBucket(stagingDir: string): Promise<ArtifactStore> {
  const { bucket, endpoint, credentials } = s3;
  const region = "us-east-1";
  return openS3Store({
    bucket,
    prefix: "",
    endpoint,
    region,
    credentials,
    forcePathStyle: true,
    stagingDir,
    keys: artifactKeys,
  });
}

async function worker() {
  const dir = await system.newDir();
  const store = await inBucket(join(dir, "staging"));
  return await system.worker({ dir, wrapArtifacts: () => store });
}

it("parks, and goes on elsewhere with its files; no byte of them lies in the bucket in plain", async () => {
  const first = await worker();
  await system.deploy(workspaceTasks);
  const marker = randomBytes(12).toString("hex");
  const run = await system.run("waits", { files: { note: marker } });
  await system.parked(run);

  const stored = await readdir(s3.bucketFolder, { recursive: true, withFileTypes: true });
  const objects = stored.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  // Source, layers, checkpoint, manifest, pack.
  expect(objects.length).toBeGreaterThanOrEqual(4);
  for (const object of objects)
    expect((await readFile(object)).includes(marker), `the marker is in ${object}`).toBe(false);
  // What is sealed there has it: a small file is not compressed.
  const rows = await system.db
    .selectFrom("workspace_version_artifacts")
    .select("digest")
    .distinct()
    .execute();
  const opened = await Promise.all(
    rows.map(async ({ digest }) => await buffer(await system.artifacts.get(digest))),
  );
  expect(opened.some((bytes) => bytes.includes(marker))).toBe(true);

  await first.stop();
  await worker();
  await system.complete(await system.awaitedToken(run), "yes");
  const { status, output, failure } = await system.finished(run);
  expect([status, failure]).toEqual(["succeeded", null]);
  expect(output).toMatchObject({ answer: "yes", note: marker });
});
