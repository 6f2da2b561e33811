/**
 * What a guest holds on the host: folders, root filesystem, network, cgroup, processes. Acquired in one order, released in
 * the reverse one.
 *
 *  G1  Resources are released in reverse order of acquisition, each also when another one's release failed.
 *  G2  The guest's folder exists before any other resource, and is removed last: it is the record recovery starts from.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import { GuestCgroup } from "../host/cgroup.ts";
import { Gate } from "../host/gate.ts";
import { mountOverlay, unmount } from "../host/mounts.ts";
import { killProcessesNaming } from "../host/processes.ts";
import type { GuestSpec } from "../isolation.ts";
import type { HostContext } from "./context.ts";
import type { GuestNetworkLease } from "./network.ts";
import { ociSpec } from "./oci-spec.ts";
import type { Sandbox, SandboxOptions } from "./sandbox.ts";

/** The sentry's own memory and its file server's, on top of what the guest was promised (idle: 27-35 MiB). */
const sandboxOverheadMib = 96;
/** Host threads of a sandbox: the sentry's own, and up to three per guest thread (stub, system call threads). */
const sandboxThreads = 256;
const threadsPerGuestThread = 3;
/** runsc removes its own state when the sandbox has died; after this long it is killed too. */
const runscExitGraceMs = 5_000;

/** Of the guest's cgroup. */
export function memoryLimitMib(spec: GuestSpec): number {
  return spec.resources.memoryMib + sandboxOverheadMib;
}

export type Release = () => Promise<void>;

export interface PreparedGuest {
  readonly sandbox: SandboxOptions;
  readonly cgroup: GuestCgroup | undefined;
  /** Of a restore: its sandbox waits there until the image is complete. */
  readonly gate: Gate | undefined;
  /** Paths that name this guest's processes in their command lines. */
  readonly traces: readonly string[];
}

/** Everything a sandbox needs; what was acquired is in `releases`, also when this rejects. */
export async function prepareGuest(
  context: HostContext,
  spec: GuestSpec,
  image: string | undefined,
  releases: Release[],
): Promise<PreparedGuest> {
  const directory = path.join(context.settings.guestsDir, spec.id);
  const runtime = path.join(context.settings.runtimeDir, spec.id);
  await mkdir(directory, { mode: 0o700 }); // G2
  releases.push(() => rm(directory, { recursive: true, force: true }));
  await mkdir(runtime, { mode: 0o700 });
  releases.push(() => rm(runtime, { recursive: true, force: true }));

  const gatePath = path.join(directory, "gate");
  const [rootPath, network, cgroup, gate] = await settleAll(
    acquireRoot(context, spec, directory, releases),
    acquireNetwork(context, spec, releases),
    acquireCgroup(context, spec, releases),
    image === undefined ? Promise.resolve(undefined) : makeGate(gatePath, releases),
  );
  const config = ociSpec(spec, {
    rootPath,
    cgroupPath: cgroup?.path,
    networkNamespacePath: network?.namespacePath,
    extraCa: context.settings.extraCaCertificates !== undefined,
    gatePath: gate && gatePath,
  });
  await writeFile(path.join(directory, "config.json"), JSON.stringify(config), { mode: 0o600 });
  const sandbox: SandboxOptions = {
    runscPath: context.settings.runscPath,
    sharedRoot: path.join(context.settings.runtimeDir, "shared"),
    root: runtime,
    bundle: directory,
    network: network === undefined ? "none" : "sandbox",
    cgroups: cgroup !== undefined,
    image,
    scratch: spec.captureWritesTo === undefined ? { directory, sizeMib: spec.resources.diskMib } : undefined,
  };
  return { sandbox, cgroup, gate, traces: [`${directory}/`, `${runtime}/`, `--root=${runtime}`] };
}

/** All of them, so that none is still acquiring when cleanup begins; then the first failure. */
async function settleAll<A, B, C, D>(
  ...all: [Promise<A>, Promise<B>, Promise<C>, Promise<D>]
): Promise<[A, B, C, D]> {
  await Promise.allSettled(all);
  return Promise.all(all);
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

async function makeGate(gatePath: string, releases: Release[]): Promise<Gate> {
  const gate = await Gate.make(gatePath);
  releases.push(() => gate.close());
  return gate;
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
    memoryMib: memoryLimitMib(spec),
    hostThreads: sandboxThreads + threadsPerGuestThread * spec.maxProcesses,
  });
  return cgroup;
}

/** Everything of the sandbox is dead, and runsc has been reaped. */
export async function endProcesses(
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
export async function releaseAll(releases: readonly Release[]): Promise<string[]> {
  const problems: string[] = [];
  for (const release of releases.toReversed()) {
    await release().catch((error) => problems.push(messageOf(error)));
  }
  return problems;
}
