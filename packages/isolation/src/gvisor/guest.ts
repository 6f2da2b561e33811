/**
 * One guest under gVisor: the host resources it holds and how it gives them back.
 *
 * | phase    | enters by              | leaves by                                   |
 * |----------|------------------------|---------------------------------------------|
 * | starting | startGuest             | first process runs -> running; else ending  |
 * | running  | runsc's state says so  | the process ends, or destroy() -> ending    |
 * | ending   | cleanup begins         | everything is gone -> gone                  |
 * | gone     | cleanup ended          | never; `exited` is resolved (I3)            |
 *
 *  G1  Resources are released in reverse order of acquisition, each also when another one's release failed.
 *  G2  The guest's folder exists before any other resource, and is removed last: it is the record recovery starts from.
 *  G3  Cleanup runs once, whoever asks for it first.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { IsolationError, messageOf } from "../errors.ts";
import { GuestCgroup, killProcess } from "../host/cgroup.ts";
import { mountOverlay, unmount } from "../host/mounts.ts";
import { killProcessesNaming } from "../host/processes.ts";
import type { Guest, GuestExit, GuestSpec } from "../isolation.ts";
import type { HostContext } from "./context.ts";
import type { GuestNetworkLease } from "./network.ts";
import { ociSpec } from "./oci-spec.ts";
import { Sandbox, type SandboxOptions } from "./sandbox.ts";

/** The sentry's own memory and its file server's, on top of what the guest was promised (idle: 27-35 MiB). */
const sandboxOverheadMib = 96;
/** Host threads of a sandbox: the sentry's own, and up to three per guest thread (stub, system call threads). */
const sandboxThreads = 256;
const threadsPerGuestThread = 3;
/** runsc removes its own state when the sandbox has died; after this long it is killed too. */
const runscExitGraceMs = 5_000;

type Release = () => Promise<void>;

/** Acquires everything a guest needs and starts it; on failure everything is released before it rejects (I3). */
export async function startGuest(context: HostContext, spec: GuestSpec): Promise<GvisorGuest> {
  const releases: Release[] = [];
  try {
    const prepared = await prepare(context, spec, releases);
    const sandbox = new Sandbox(prepared.sandbox);
    releases.push(() => endProcesses(sandbox, prepared.cgroup, prepared.traces));
    await sandbox.started();
    return new GvisorGuest(spec.id, sandbox, prepared.cgroup, releases);
  } catch (error) {
    const problems = await releaseAll(releases);
    for (const problem of problems) context.logger.warn({ guest: spec.id, problem }, "guest cleanup failed");
    throw error instanceof IsolationError
      ? error
      : new IsolationError("host", `cannot start guest ${spec.id}: ${messageOf(error)}`, { cause: error });
  }
}

interface PreparedGuest {
  readonly sandbox: SandboxOptions;
  readonly cgroup: GuestCgroup | undefined;
  /** Paths that name this guest's processes in their command lines. */
  readonly traces: readonly string[];
}

async function prepare(context: HostContext, spec: GuestSpec, releases: Release[]): Promise<PreparedGuest> {
  const directory = path.join(context.settings.guestsDir, spec.id);
  const runtime = path.join(context.settings.runtimeDir, spec.id);
  await mkdir(directory, { mode: 0o700 }); // G2
  releases.push(() => rm(directory, { recursive: true, force: true }));
  await mkdir(runtime, { mode: 0o700 });
  releases.push(() => rm(runtime, { recursive: true, force: true }));

  const [rootPath, network, cgroup] = await settleAll(
    acquireRoot(context, spec, directory, releases),
    acquireNetwork(context, spec, releases),
    acquireCgroup(context, spec, releases),
  );
  const config = ociSpec(spec, {
    rootPath,
    cgroupPath: cgroup?.path,
    networkNamespacePath: network?.namespacePath,
    extraCa: context.settings.extraCaCertificates !== undefined,
  });
  await writeFile(path.join(directory, "config.json"), JSON.stringify(config), { mode: 0o600 });
  const sandbox: SandboxOptions = {
    runscPath: context.settings.runscPath,
    sharedRoot: path.join(context.settings.runtimeDir, "shared"),
    root: runtime,
    bundle: directory,
    network: network === undefined ? "none" : "sandbox",
    cgroups: cgroup !== undefined,
    scratch: spec.captureWritesTo === undefined ? { directory, sizeMib: spec.resources.diskMib } : undefined,
  };
  return { sandbox, cgroup, traces: [`${directory}/`, `${runtime}/`, `--root=${runtime}`] };
}

/** All of them, so that none is still acquiring when cleanup begins; then the first failure. */
async function settleAll<A, B, C>(a: Promise<A>, b: Promise<B>, c: Promise<C>): Promise<[A, B, C]> {
  await Promise.allSettled([a, b, c]);
  return Promise.all([a, b, c]);
}

async function acquireRoot(
  context: HostContext,
  spec: GuestSpec,
  directory: string,
  releases: Release[],
): Promise<string> {
  const lease = await context.roots.lease(spec);
  releases.push(() => lease.release());
  if (spec.captureWritesTo === undefined) return lease.merged;
  const upper = path.resolve(spec.captureWritesTo);
  // overlayfs wants its work folder on the upper's file system; the captured folder's own sibling is.
  const work = path.join(path.dirname(upper), `.helmr-work-${context.settings.tag}-${spec.id}`);
  await mkdir(upper, { recursive: true });
  releases.push(() => rm(work, { recursive: true, force: true }));
  await mkdir(work, { recursive: true });
  const target = path.join(directory, "root");
  releases.push(() => unmount(target));
  await mountOverlay({ lowers: [lease.base, spec.root.path], upper, work, target });
  return target;
}

async function acquireNetwork(
  context: HostContext,
  spec: GuestSpec,
  releases: Release[],
): Promise<GuestNetworkLease | undefined> {
  const lease = await context.network.lease(spec.network);
  if (lease !== undefined) releases.push(() => lease.release());
  return lease;
}

async function acquireCgroup(
  context: HostContext,
  spec: GuestSpec,
  releases: Release[],
): Promise<GuestCgroup | undefined> {
  if (context.cgroups.usable.size === 0) return undefined;
  const cgroup = new GuestCgroup(context.cgroups, context.settings.tag, spec.id);
  releases.push(() => cgroup.remove());
  await cgroup.create({
    cpu: spec.resources.cpu,
    memoryMib: spec.resources.memoryMib + sandboxOverheadMib,
    hostThreads: sandboxThreads + threadsPerGuestThread * spec.maxProcesses,
  });
  return cgroup;
}

/** Everything of the sandbox is dead, and runsc has been reaped. */
async function endProcesses(
  sandbox: Sandbox,
  cgroup: GuestCgroup | undefined,
  traces: readonly string[],
): Promise<void> {
  await cgroup?.killAll();
  const exit = sandbox.exit().catch(() => undefined); // runsc that could not be spawned has nothing to reap.
  const abort = new AbortController();
  await Promise.race([
    exit,
    delay(runscExitGraceMs, undefined, { signal: abort.signal }).catch(() => undefined),
  ]);
  abort.abort();
  if (sandbox.running || cgroup === undefined) {
    sandbox.killRunsc();
    await killProcessesNaming(traces);
  }
  await cgroup?.killAll();
  await exit;
}

/** Release in reverse order; what failed is returned, never stops the rest (G1). */
async function releaseAll(releases: readonly Release[]): Promise<string[]> {
  const problems: string[] = [];
  for (const release of releases.toReversed()) {
    await release().catch((error) => problems.push(messageOf(error)));
  }
  return problems;
}

export class GvisorGuest implements Guest {
  readonly id: string;
  readonly stream: Duplex;
  readonly stderr: Readable;
  readonly exited: Promise<GuestExit>;
  readonly #sandbox: Sandbox;
  readonly #cgroup: GuestCgroup | undefined;
  readonly #releases: readonly Release[];
  #destroyed = false;

  constructor(id: string, sandbox: Sandbox, cgroup: GuestCgroup | undefined, releases: readonly Release[]) {
    this.id = id;
    this.#sandbox = sandbox;
    this.#cgroup = cgroup;
    this.#releases = releases;
    this.stream = sandbox.stream;
    this.stderr = sandbox.stderr;
    this.exited = this.#end();
  }

  async pause(): Promise<void> {
    if (this.#cgroup?.canFreeze === true) await this.#cgroup.freeze(true);
    else await this.#sandbox.command("pause");
  }

  async resume(): Promise<void> {
    if (this.#cgroup?.canFreeze === true) await this.#cgroup.freeze(false);
    else await this.#sandbox.command("resume");
  }

  async oomKills(): Promise<number> {
    return (await this.#cgroup?.oomKills()) ?? 0;
  }

  async destroy(): Promise<void> {
    if (!this.#destroyed) {
      this.#destroyed = true;
      await this.#cgroup?.killAll();
      if (this.#cgroup === undefined) for (const pid of await this.#sandbox.processIds()) killProcess(pid);
    }
    await this.exited;
  }

  /** Waits for the first process's end and releases everything: the only place that does (G3). */
  async #end(): Promise<GuestExit> {
    const exit = await this.#sandbox.exit();
    const oomKills = await this.oomKills();
    const problems = await releaseAll(this.#releases);
    const reason: GuestExit = oomKills > 0 && exit.reason !== "exited" ? { reason: "out_of_memory" } : exit;
    if (problems.length === 0) return reason;
    return { reason: "lost", detail: `the guest ended, but its cleanup failed: ${problems.join("; ")}` };
  }
}
