/** Builds whose steps mean harm: what they leave, what they fill, and what reaches another environment. */
import { randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bench } from "./support/bench.ts";
import { project } from "./support/projects.ts";

const tasks = { hello: "return null;" };
const sh = (script: string, mounts = "") => `.run(["sh", "-c", ${JSON.stringify(script)}]${mounts})`;
const cached = ', { cache: [{ mountPath: "/cache", cache: cache("shared") }] }';

describe("hostile builds", () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await Bench.start();
  });
  afterAll(() => bench.stop());

  it("refuses a layer with folders deeper than a path may be long, and leaves nothing of it", async () => {
    const script = `cd /srv; node -e 'for (let i = 0; i < 40; i++) { fs.mkdirSync("d".repeat(200)); process.chdir("d".repeat(200)); }'`;
    const { outcome } = await bench.build(project({ tasks, image: sh(script) }));
    expect(outcome).toMatchObject({ status: "failed", failure_kind: "image_preparation", retryable: false });
    expect(JSON.stringify(outcome)).toMatch(/path is longer than 4096 bytes/);
    expect((await readdir(join(bench.dir, "worker/layers"))).filter((name) => name.startsWith("."))).toEqual(
      [],
    );
  });

  it("keeps a layer whose names are no UTF-8 and whose files repeat the registry's token", async () => {
    const script =
      "printf 'x' > \"$(printf '/srv/caf\\351')\"; t=$(cut -d/ -f4 /run/helmr-packages/npmrc | head -1); " +
      "yes $t | head -c 8000000 > /srv/tokens; yes $t | head -c 70000000 > /srv/package-lock.json";
    const { outcome } = await bench.build(project({ tasks, image: sh(script) }));
    expect(outcome.status, JSON.stringify(outcome)).toBe("built");
  });

  it("shares no layer between environments when a step has a cache, and no cache", async () => {
    const image = sh("ls /cache; touch /cache/from-the-first; true", cached);
    const first = await bench.build(project({ tasks, image }));
    expect(first.outcome.status, JSON.stringify(first.outcome)).toBe("built");
    const again = await bench.build(project({ tasks, image }));
    expect(again.record.messages).toMatch(/run sh -c ls .* \(cached\)/);
    const other = await bench.build(project({ tasks, image }), randomUUID());
    expect(other.record.messages).not.toMatch(/run sh -c ls .* \(cached\)/);
    expect(JSON.stringify(other.record.events)).not.toContain('"from-the-first"');
  });

  it("masks a build secret that a step prints, also in the failure", async () => {
    bench.controlPlane.buildSecrets.set("TOKEN", "printed-secret-value");
    const image = sh(
      "cat /run/token; echo; exit 3",
      ', { secrets: [{ mountPath: "/run/token", secret: "TOKEN" }] }',
    );
    const { record, outcome } = await bench.build(project({ tasks, image }));
    expect(outcome).toMatchObject({ status: "failed", output_tail: "[secret TOKEN]" });
    expect(JSON.stringify([record.events, outcome])).not.toContain("printed-secret-value");
  });

  it("bounds a cache", async () => {
    const { record, outcome } = await bench.build(
      project({ tasks, image: sh("echo size $(stat -f -c '%b %S' /cache)", cached) }),
    );
    expect(outcome.status, JSON.stringify(outcome)).toBe("built");
    const [, blocks, blockBytes] = /"size (\d+) (\d+)"/.exec(JSON.stringify(record.events)) ?? [];
    expect(Number(blocks) * Number(blockBytes)).toBeGreaterThan(0);
    expect(Number(blocks) * Number(blockBytes)).toBeLessThanOrEqual(8 * 1024 ** 3);
  });

  it.each([
    ['.resources({ memory: "900Gi" })', /asks for 921600 MiB of memory; this worker gives at most/],
    ['.resources({ disk: "9000Gi" })', /asks for 9216000 MiB of disk; this worker gives at most/],
  ])("refuses a sandbox with %s", async (sandbox, message) => {
    const { outcome } = await bench.build(project({ tasks, sandbox }));
    expect(outcome).toMatchObject({ status: "failed", retryable: false });
    expect((outcome as { message: string }).message).toMatch(message);
  });
});
