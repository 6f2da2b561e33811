/** A worker that was killed: the next one of the same folder finds and removes everything, and works. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { Bench } from "./support/bench.ts";
import { project } from "./support/projects.ts";

async function mountsBelow(folder: string): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .filter((target) => target.startsWith(`${folder}/`));
}

async function processesNaming(text: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return lines.filter((line) => line.includes(text)).map((line) => line.replaceAll("\0", " "));
}

it("recovers after kill -9 in the middle of a run, a build and with a pooled guest", async () => {
  const dir = await mkdtemp(join(tmpdir(), "worker-"));
  const program = fileURLToPath(new URL("./support/crashing-worker.ts", import.meta.url));
  const child = spawn(process.execPath, [program, dir], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: child.stdout });
    expect((await Promise.race([once(lines, "line"), once(child, "exit")]))[0]).toBe("busy");
  } finally {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
  expect(await mountsBelow(dir)).not.toEqual([]);

  const bench = await Bench.start({ dir });
  try {
    expect(await mountsBelow(dir)).toEqual([]);
    expect(await processesNaming(dir)).toEqual([]);
    expect(await readdir(join(dir, "worker/builds"))).toEqual([]);
    expect((await readdir(join(dir, "worker/layers"))).filter((name) => name.startsWith(".partial"))).toEqual(
      [],
    );
    expect(
      (await readdir(join(dir, "worker/workspaces/disks"))).filter((name) => name.startsWith("fresh-")),
    ).toEqual([]);
    const deployment = await bench.deploy(project({ tasks: { again: "return 1;" } }));
    expect(await bench.run(deployment, "again").outcome).toMatchObject({ status: "succeeded" });
  } finally {
    await bench.stop();
  }
});
