/** The contract suite over the gVisor driver, with real guests. Needs root, and runsc (HELMR_RUNSC or on the PATH). */
import { mkdtemp, readdir, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { resolveOptions } from "../src/gvisor/options.ts";
import {
  createGvisorIsolation,
  type GvisorOptions,
  type Isolation,
  probeBoot,
  probeHost,
} from "../src/index.ts";
import type { Bench } from "./bench-guest.ts";
import { checkpointContract } from "./contract/checkpoint.ts";
import { filesystemContract } from "./contract/filesystem.ts";
import { lifecycleContract } from "./contract/lifecycle.ts";
import { limitsContract } from "./contract/limits.ts";
import { networkContract } from "./contract/network.ts";
import { processContract } from "./contract/process.ts";
import { buildTestRootfs } from "./rootfs.ts";
import { findRunsc } from "./runsc.ts";
import { runscFaults } from "./runsc-faults.ts";

// A guest takes 0.3 s; a busy machine with two processors up to twenty times that.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const hostBundle = "/etc/ssl/certs/ca-certificates.crt";

describe("gvisor", () => {
  let bench: Bench | undefined;
  let directory = "";
  let runscPath = "";
  const opened: Isolation[] = [];

  const options = (name: string): GvisorOptions => ({
    runscPath,
    stateDir: path.join(directory, name),
    instanceName: name,
    extraCaCertificates: hostBundle,
  });

  beforeAll(async () => {
    runscPath = await findRunsc();
    directory = await realpath(await mkdtemp(path.join(tmpdir(), "helmr-isolation-")));
    const root = path.join(directory, "root");
    await buildTestRootfs(root);
    const another = (name: string) => {
      const isolation = createGvisorIsolation(options(name));
      opened.push(isolation);
      return isolation;
    };
    bench = {
      isolation: another("first"),
      root,
      scratch: path.join(directory, "scratch"),
      another,
      leftovers: async () => {
        const names = ["first", "crashed", "faulty"].map((name) => resolveOptions(options(name)));
        return (
          await Promise.all(
            names.map(({ tag, guestsDir, runtimeDir }) => leftovers(tag, guestsDir, runtimeDir)),
          )
        ).flat();
      },
    };
  });

  afterAll(async () => {
    for (const isolation of opened) await isolation.close();
    const mounts = await readFile("/proc/self/mountinfo", "utf8");
    expect(mounts).not.toContain(directory);
    await rm(directory, { recursive: true, force: true });
  });

  const current = () => {
    if (bench === undefined) throw new Error("the suite has not started");
    return bench;
  };

  it("is possible on this host", async () => {
    expect(await probeHost({ runscPath })).toEqual({ ok: true });
    expect(await probeBoot({ runscPath })).toEqual({ ok: true });
  });

  it("names what is missing and the command that mends it", async () => {
    const probe = await probeHost({ runscPath: "/no/runsc" });
    const problem = {
      what: expect.stringContaining("/no/runsc"),
      mend: expect.stringContaining("go install"),
    };
    expect(probe).toEqual({ ok: false, problems: [problem] });
  });

  it("says what it can enforce", async () => {
    const capabilities = await current().isolation.capabilities();
    expect(capabilities).toMatchObject({ driver: "gvisor", network: true, checkpoint: true });
    const missing = Object.values(capabilities.limits).filter((limit) => !limit).length;
    expect(capabilities.notes.length).toBeGreaterThanOrEqual(missing > 0 ? 1 : 0);
  });

  processContract(current);
  filesystemContract(current);
  limitsContract(current);
  networkContract(current);
  checkpointContract(current);
  runscFaults(current, options);
  lifecycleContract(current, {
    workerModule: path.join(import.meta.dirname, "crash-worker.ts"),
    workerSettings: () => ({ options: options("crashed"), root: current().root, scratch: current().scratch }),
    successor: () => current().another("crashed"),
  });
});

/** Processes, namespaces, links, cgroups, folders and mounts of guests; roots stay mounted for the next guest. */
async function leftovers(tag: string, guestsDir: string, runtimeDir: string): Promise<string[]> {
  const processes = await execa("ps", ["-eo", "args"]);
  const cgroups = await readdir("/sys/fs/cgroup");
  const lists = await Promise.all([
    readdir(guestsDir).catch(() => []),
    readdir(runtimeDir).catch(() => []),
    readdir("/run/netns").catch(() => []),
    readdir("/sys/class/net"),
    ...["", ...cgroups].map((name) => readdir(`/sys/fs/cgroup/${name}/helmr/${tag}`).catch(() => [])),
  ]);
  const [guests = [], runtime = [], namespaces = [], links = [], ...groups] = lists;
  return [
    ...processes.stdout
      .split("\n")
      .filter((line) => line.includes(`${guestsDir}/`) || line.includes(`${runtimeDir}/`)),
    ...guests,
    ...runtime.filter((name) => name !== "shared" && name !== "owner"),
    ...namespaces.filter((name) => name.startsWith(`helmr-${tag}`)),
    ...links.filter((name) => name.startsWith(`h${tag}`)),
    ...groups.flat().filter((name) => /^(t|probe)-/.test(name)),
  ];
}
