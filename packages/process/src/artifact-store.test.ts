import { chmod, mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifactStoreConfig, artifactStoreVariables, openArtifactStore } from "./artifact-store.ts";
import { readConfig } from "./config.ts";

const read = (environment: Record<string, string>) =>
  artifactStoreConfig(readConfig(artifactStoreVariables, environment));

describe("HELMR_CAS_URI", () => {
  test.each([
    ["file:///var/lib/helmr", { kind: "folder", folder: "/var/lib/helmr" }],
    ["file:///with%20space", { kind: "folder", folder: "/with space" }],
    ["s3://bucket", { kind: "s3", bucket: "bucket", prefix: "" }],
    ["s3://my.bucket-1/", { kind: "s3", bucket: "my.bucket-1", prefix: "" }],
    ["s3://bucket/a/b_c/", { kind: "s3", bucket: "bucket", prefix: "a/b_c" }],
  ])("%s", (text, place) => {
    expect(read({ HELMR_CAS_URI: text }).place).toEqual(place);
  });

  test.each([
    "/planted-secret",
    "file://planted-secret/path",
    "file:///",
    "s3:planted-secret",
    "s3:///planted-secret",
    "s3://user:planted-secret@bucket/prefix",
    "s3://Planted-Secret",
    "s3://planted-secret:9000/prefix",
    "s3://bucket/planted-secret?region=x",
    "s3://bucket/planted secret",
    "https://planted-secret",
  ])("refused, without its value: %s", (text) => {
    const refused = () => read({ HELMR_CAS_URI: text });
    expect(refused).toThrow("HELMR_CAS_URI: must be file:///path or s3://bucket/prefix");
    expect(refused).not.toThrow(/planted.secret/i);
  });
});

describe("of S3", () => {
  const uri = { HELMR_CAS_URI: "s3://bucket" };

  test("a region: its own variable, the SDK's, or any with an endpoint", () => {
    const endpoint = { HELMR_S3_ENDPOINT: "http://127.0.0.1:9000" };
    expect(read(uri).s3.region).toBeUndefined();
    expect(read({ ...uri, ...endpoint }).s3.region).toBe("us-east-1");
    expect(read({ ...uri, ...endpoint, AWS_REGION: "eu-west-1" }).s3.region).toBe("eu-west-1");
    expect(read({ ...uri, AWS_REGION: "eu-west-1", HELMR_S3_REGION: "eu-west-2" }).s3.region).toBe(
      "eu-west-2",
    );
  });

  test.each([
    ["HELMR_S3_ENDPOINT", "planted-secret:9000"],
    ["HELMR_S3_ENDPOINT", "https://key:planted-secret@host"],
    ["HELMR_S3_FORCE_PATH_STYLE", "planted-secret"],
    ["HELMR_ARTIFACT_STAGING_DIR", "planted-secret"],
  ])("%s=%s is refused", (name, value) => {
    const refused = () => read({ ...uri, [name]: value });
    expect(refused).toThrow(new RegExp(`${name}: must `));
    expect(refused).not.toThrow("planted-secret");
  });
});

describe("where it stages", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "helmr-process-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("not where others may write", async () => {
    const stagingDir = join(folder, "staging");
    await mkdir(stagingDir);
    await chmod(stagingDir, 0o777);
    const config = read({ HELMR_CAS_URI: "s3://bucket", HELMR_ARTIFACT_STAGING_DIR: stagingDir });
    await expect(openArtifactStore(config)).rejects.toThrow("Set HELMR_ARTIFACT_STAGING_DIR to a folder");
  });

  test("a folder store stages in itself, and is made", async () => {
    const config = read({
      HELMR_CAS_URI: `file://${folder}/artifacts`,
      HELMR_ARTIFACT_STAGING_DIR: "/nowhere",
    });
    const store = await openArtifactStore(config);
    expect(await store.has(`sha256:${"0".repeat(64)}`)).toBe(false);
    expect((await stat(join(folder, "artifacts"))).mode & 0o777).toBe(0o700);
  });
});
