/**
 * One cgroup per guest, made by us before the sandbox starts and removed by us after it: the counters (was memory
 * exhausted?) stay readable when the sandbox is gone, and its processes can be found whatever happened.
 *
 * Version 1 has one hierarchy per controller, version 2 one for all; both lie under /sys/fs/cgroup.
 *  C1  `killAll` returns only when the cgroup holds no process.
 *  C2  Everything lies under /helmr/<tag>, so that recovery needs no record.
 */
import { access, mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errorCode, IsolationError, messageOf } from "../errors.ts";

const cgroupRoot = "/sys/fs/cgroup";
const controllers = ["memory", "cpu", "pids", "freezer"] as const;
type Controller = (typeof controllers)[number];
const cpuPeriodUs = 100_000;
const killTimeoutMs = 10_000;

export interface CgroupLimits {
  readonly cpu: number;
  readonly memoryMib: number;
  /** Host threads, a backstop: the guest's own limit is RLIMIT_NPROC inside. */
  readonly hostThreads: number;
}

export interface CgroupSupport {
  readonly version: 1 | 2;
  readonly usable: ReadonlySet<Controller>;
  /** Why a controller is not usable. */
  readonly notes: readonly string[];
}

/** Find out by doing: make a cgroup under /helmr/<tag> and write the limits. */
export async function probeCgroups(tag: string): Promise<CgroupSupport> {
  const version = (await exists(`${cgroupRoot}/cgroup.controllers`)) ? 2 : 1;
  const usable = new Set<Controller>();
  const notes: string[] = [];
  for (const controller of controllers) {
    const support = { version, usable: new Set([controller]), notes: [] } satisfies CgroupSupport;
    const probe = new GuestCgroup(support, tag, `probe-${controller}-${process.pid}`);
    try {
      await probe.create({ cpu: 1, memoryMib: 64, hostThreads: 64 });
      usable.add(controller);
    } catch (error) {
      notes.push(`the cgroup v${version} controller "${controller}" is not usable (${messageOf(error)})`);
    } finally {
      await probe.remove().catch(() => undefined); // A probe that could not be made cannot be removed either.
    }
  }
  return { version, usable, notes };
}

export class GuestCgroup {
  readonly #support: CgroupSupport;
  /** As runsc wants it: relative to each hierarchy's root. */
  readonly path: string;

  constructor(support: CgroupSupport, tag: string, id: string) {
    this.#support = support;
    this.path = `/helmr/${tag}/${id}`;
  }

  async create(limits: CgroupLimits): Promise<void> {
    if (this.#support.version === 2) await enableControllers(this.path);
    for (const directory of this.#directories()) await mkdir(directory, { recursive: true });
    for (const [controller, file, value] of this.#settings(limits)) {
      if (!this.#support.usable.has(controller)) continue;
      await this.#write(controller, file, value);
    }
  }

  /** Times the kernel killed a process of this cgroup because its memory was exhausted. */
  async oomKills(): Promise<number> {
    if (!this.#support.usable.has("memory")) return 0;
    const file = this.#support.version === 2 ? "memory.events" : "memory.oom_control";
    const text = await readFile(this.#file("memory", file), "utf8").catch(() => "");
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  /** Change the memory limit of a living guest; nothing where memory is not limited. */
  async limitMemory(memoryMib: number): Promise<void> {
    if (!this.#support.usable.has("memory")) return;
    const file = this.#support.version === 2 ? "memory.max" : "memory.limit_in_bytes";
    await this.#write("memory", file, String(memoryMib * 2 ** 20));
  }

  /** Whether `freeze` works; else the sandbox is asked to pause its processes. */
  get canFreeze(): boolean {
    return this.#support.usable.has("freezer");
  }

  async freeze(frozen: boolean): Promise<void> {
    const v2 = this.#support.version === 2;
    await this.#write("freezer", v2 ? "cgroup.freeze" : "freezer.state", freezerValue(v2, frozen));
  }

  /** SIGKILL until nothing is left (C1). */
  async killAll(): Promise<void> {
    const deadline = Date.now() + killTimeoutMs;
    for (;;) {
      const pids = await this.processIds();
      if (pids.length === 0) return;
      if (Date.now() > deadline) {
        throw new IsolationError("cgroup", `processes ${pids.join(", ")} of ${this.path} do not die`);
      }
      for (const pid of pids) killProcess(pid);
      // Version 1 delivers a signal to a frozen process when it thaws.
      if (this.canFreeze) await this.freeze(false);
      await delay(5);
    }
  }

  async processIds(): Promise<number[]> {
    const lists = await Promise.all(
      this.#directories().map((directory) => readFile(`${directory}/cgroup.procs`, "utf8").catch(() => "")),
    );
    return [...new Set(lists.flatMap((list) => list.split("\n").filter(Boolean).map(Number)))];
  }

  async remove(): Promise<void> {
    for (const directory of await existingCgroups(this.path)) await removeCgroup(directory);
  }

  #directories(): string[] {
    if (this.#support.version === 2) return [`${cgroupRoot}${this.path}`];
    return [...this.#support.usable].map((controller) => `${cgroupRoot}/${controller}${this.path}`);
  }

  #file(controller: Controller, name: string): string {
    const hierarchy = this.#support.version === 2 ? "" : `/${controller}`;
    return `${cgroupRoot}${hierarchy}${this.path}/${name}`;
  }

  async #write(controller: Controller, file: string, value: string): Promise<void> {
    await writeFile(this.#file(controller, file), value);
  }

  #settings(limits: CgroupLimits): [Controller, string, string][] {
    const bytes = String(limits.memoryMib * 2 ** 20);
    const quotaUs = Math.round(limits.cpu * cpuPeriodUs);
    if (this.#support.version === 2) {
      return [
        ["memory", "memory.max", bytes],
        ["memory", "memory.swap.max", "0"],
        // As in version 1 the largest process dies, not the sandbox: the agent lives to tell what happened.
        ["memory", "memory.oom.group", "0"],
        ["cpu", "cpu.max", `${quotaUs} ${cpuPeriodUs}`],
        ["pids", "pids.max", String(limits.hostThreads)],
        ["freezer", "cgroup.freeze", "0"],
      ];
    }
    return [
      ["memory", "memory.limit_in_bytes", bytes],
      ["cpu", "cpu.cfs_period_us", String(cpuPeriodUs)],
      ["cpu", "cpu.cfs_quota_us", String(quotaUs)],
      ["pids", "pids.max", String(limits.hostThreads)],
      ["freezer", "freezer.state", "THAWED"],
    ];
  }
}

/** Let frozen guests run: until then SIGKILL does not reach them (version 1). */
export async function thawAllCgroups(tag: string): Promise<void> {
  for (const parent of await existingCgroups(`/helmr/${tag}`)) {
    for (const directory of await childCgroups(parent)) await thaw(directory);
  }
}

async function thaw(directory: string): Promise<void> {
  await thawFile(directory, "freezer.state", "THAWED");
  await thawFile(directory, "cgroup.freeze", "0");
}

/** Kill and remove every cgroup of a dead worker (C2). */
export async function removeAllCgroups(tag: string): Promise<void> {
  for (const parent of await existingCgroups(`/helmr/${tag}`)) {
    for (const directory of await childCgroups(parent)) await killCgroup(directory);
    for (const directory of await childCgroups(parent)) await removeCgroup(directory);
    await removeCgroup(parent);
  }
  // The common parent goes with the last instance on this host.
  for (const shared of await existingCgroups("/helmr")) {
    await rmdir(shared).catch((error) => {
      if (!["EBUSY", "ENOTEMPTY", "ENOENT"].includes(errorCode(error) ?? "")) throw error;
    });
  }
}

async function killCgroup(directory: string): Promise<void> {
  const deadline = Date.now() + killTimeoutMs;
  for (;;) {
    const text = await readFile(`${directory}/cgroup.procs`, "utf8").catch(() => "");
    const pids = text.split("\n").filter(Boolean).map(Number);
    if (pids.length === 0) return;
    if (Date.now() > deadline) throw new IsolationError("cgroup", `processes ${pids.join(", ")} do not die`);
    for (const pid of pids) killProcess(pid);
    await thaw(directory);
    await delay(5);
  }
}

async function thawFile(directory: string, file: string, value: string): Promise<void> {
  const target = path.join(directory, file);
  if (await exists(target)) await writeFile(target, value);
}

/** A cgroup is busy for a moment after its last process died. */
async function removeCgroup(directory: string): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (errorCode(error) === "ENOENT") return;
      if (errorCode(error) !== "EBUSY" || attempt === 200) {
        throw new IsolationError("cgroup", `cannot remove ${directory}: ${messageOf(error)}`);
      }
      await delay(5);
    }
  }
}

/** The same cgroup in every hierarchy: the sandbox joins more of them than we set limits in. */
async function existingCgroups(cgroupPath: string): Promise<string[]> {
  const version2 = await exists(`${cgroupRoot}/cgroup.controllers`);
  const hierarchies = version2 ? [""] : (await readdir(cgroupRoot)).map((name) => `/${name}`);
  const found: string[] = [];
  for (const hierarchy of hierarchies) {
    const directory = `${cgroupRoot}${hierarchy}${cgroupPath}`;
    if (await exists(directory)) found.push(directory);
  }
  return found;
}

async function childCgroups(parent: string): Promise<string[]> {
  const entries = await readdir(parent, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => path.join(parent, entry.name));
}

/** Version 2: a controller works in a child only when every ancestor hands it down. */
async function enableControllers(cgroupPath: string): Promise<void> {
  const parts = cgroupPath.split("/").filter(Boolean).slice(0, -1);
  let directory = cgroupRoot;
  for (const part of ["", ...parts]) {
    directory = path.join(directory, part);
    await mkdir(directory, { recursive: true });
    for (const controller of ["memory", "cpu", "pids"]) {
      await writeFile(`${directory}/cgroup.subtree_control`, `+${controller}`).catch((error) => {
        if (errorCode(error) !== "ENOENT") throw error; // ENOENT: the kernel lacks it; writing the limit will tell.
      });
    }
  }
}

function freezerValue(version2: boolean, frozen: boolean): string {
  if (version2) return frozen ? "1" : "0";
  return frozen ? "FROZEN" : "THAWED";
}

/** SIGKILL; a process that is gone already is what was wanted. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
