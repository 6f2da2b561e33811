/**
 * runsc that is killed in the middle of saving or restoring: a wrapper starts the real one and kills it at a point that
 * its own traces tell, so that the test stops exactly there.
 */
import { chmod, mkdir, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { checkpointHost, describeImage } from "../src/gvisor/checkpoint.ts";
import { createGvisorIsolation, type GvisorOptions, type Isolation } from "../src/index.ts";
import type { Bench } from "./bench-guest.ts";
import { ask, evaluatorSpec, restore, Staging, save, startEvaluator } from "./checkpoint-bench.ts";

type Fault = "pausing" | "saving" | "restoring";

/** `$image` and `$root` are the values of the flags of these names. */
const points: Record<Fault, { readonly command: string; readonly reached: string }> = {
  pausing: { command: "pause", reached: "true" },
  saving: { command: "checkpoint", reached: '[ -e "$image/pages.img" ]' },
  restoring: { command: "restore", reached: 'ls "$root" | grep -q state' },
};

async function faultyRunsc(file: string, runscPath: string, fault: Fault): Promise<void> {
  const { command, reached } = points[fault];
  const script = `#!/bin/sh
hit= image= root= previous=
for argument in "$@"; do
  case "$argument" in ${command}) hit=1;; --image-path=*) image="\${argument#*=}";; --root=*) root="\${argument#*=}";; esac
  previous="$argument"
done
[ -n "$hit" ] || exec ${runscPath} "$@"
${runscPath} "$@" <&0 &
child=$!
until ${reached}; do kill -0 $child 2>/dev/null || break; done
kill -9 $child
kill -9 $$
`;
  await writeFile(file, script);
  await chmod(file, 0o755);
}

export function runscFaults(bench: () => Bench, options: (name: string) => GvisorOptions): void {
  const withFault = async (fault: Fault, body: (isolation: Isolation, staging: Staging) => Promise<void>) => {
    await mkdir(bench().scratch, { recursive: true });
    const runscPath = path.join(bench().scratch, `runsc-${fault}`);
    await faultyRunsc(runscPath, options("first").runscPath, fault);
    const isolation = createGvisorIsolation({ ...options("faulty"), runscPath });
    const staging = new Staging();
    try {
      await body(isolation, staging);
    } finally {
      await isolation.close();
      await staging.remove();
    }
    expect(await bench().leftovers()).toEqual([]);
  };

  it("goes on with the guest when runsc is killed while it saves", () =>
    withFault("saving", async (isolation, staging) => {
      const guest = await startEvaluator(isolation, evaluatorSpec(bench()));
      await ask(
        guest,
        `globalThis.held = Array.from({ length: 64 }, () => require("crypto").randomBytes(1 << 20)); 0`,
      );
      await expect(guest.checkpoint({ directory: await staging.folder() })).rejects.toThrow(
        /checkpoint failed/,
      );
      expect(await ask(guest, "held.length")).toBe(64);
      await guest.destroy();
    }));

  it("ends or goes on with the guest, and never hangs, when runsc is killed while it pauses", () =>
    withFault("pausing", async (isolation, staging) => {
      const guest = await startEvaluator(isolation, evaluatorSpec(bench()));
      await expect(guest.checkpoint({ directory: await staging.folder() })).rejects.toThrow(/pause failed/);
      // It cannot be told how often the sandbox is stopped: the guest is destroyed.
      expect((await guest.exited).reason).not.toBe("exited");
    }));

  it("leaves nothing when runsc is killed while it restores, and the checkpoint can be used again", async () => {
    const staging = new Staging();
    const saved = await save(bench(), staging, ["globalThis.kept = 5"]);
    await withFault("restoring", async (isolation) => {
      const restoring = isolation.restore({ ...saved.spec, id: "t-killed" }, saved);
      await expect(restoring).rejects.toThrow();
      expect(await bench().leftovers()).toEqual([]);
    });
    const guest = await restore(bench(), saved);
    expect(await ask(guest, "kept")).toBe(5);
    await guest.destroy();
    await staging.remove();
  });

  it.each(["checkpoint.img", "pages.img", "pages_meta.img"])(
    "fails cleanly when runsc itself meets a truncated %s",
    async (name) => {
      const staging = new Staging();
      const saved = await save(bench(), staging, ["0"]);
      const { size_bytes = 0 } = saved.record.files.find((file) => file.name === name) ?? {};
      await truncate(path.join(saved.directory, name), Math.floor(size_bytes / 2));
      const host = await checkpointHost(options("first").runscPath);
      const record = await describeImage(saved.directory, host, saved.spec, true);
      await expect(restore(bench(), { ...saved, record })).rejects.toThrow(/runsc could not start/);
      expect(await bench().leftovers()).toEqual([]);
      await staging.remove();
    },
  );
}
