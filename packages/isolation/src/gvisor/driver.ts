/**
 * The gVisor driver: Isolation over `runsc` (platform systrap).
 *
 * | phase   | enters by                    | start() | recover() | close() |
 * |---------|------------------------------|---------|-----------|---------|
 * | open    | createGvisorIsolation        | works   | works     | -> closed |
 * | closed  | close()                      | rejects | rejects   | no-op   |
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { type CheckpointHost, type CheckpointRecord, isCompatible, specDifference } from "../checkpoint.ts";
import { IsolationError } from "../errors.ts";
import { probeCgroups } from "../host/cgroup.ts";
import { probeLoopDisks } from "../host/disk.ts";
import { forwardingProblem } from "../host/firewall.ts";
import { GATEWAY_ADDRESS } from "../host/netns.ts";
import { processStartTime } from "../host/processes.ts";
import type {
  Guest,
  GuestSpec,
  Isolation,
  IsolationCapabilities,
  PreparedRestore,
  RestorableCheckpoint,
} from "../isolation.ts";
import { checkpointHost, checkpointProblem, specDigests, verifyImage } from "./checkpoint.ts";
import type { HostContext } from "./context.ts";
import { NetworkManager } from "./network.ts";
import { type GvisorOptions, type GvisorSettings, resolveOptions } from "./options.ts";
import { makeFolders, removeLeftovers } from "./recovery.ts";
import { RootStore } from "./roots.ts";
import { StartingGuest } from "./starting.ts";
import { runscVersion } from "./version.ts";
import { WaitingGuest } from "./waiting.ts";

/** What a guest's id stands for, from before it starts until nothing is left of it. */
interface Held {
  readonly gone: Promise<unknown>;
  destroy(): Promise<void>;
}

/** A driver on this host. Nothing is touched before the first call. */
export function createGvisorIsolation(options: GvisorOptions): Isolation {
  return new GvisorIsolation(resolveOptions(options));
}

class GvisorIsolation implements Isolation {
  readonly gatewayAddress = GATEWAY_ADDRESS;
  readonly #settings: GvisorSettings;
  readonly #guests = new Map<string, Promise<Held>>();
  #context: Promise<HostContext> | undefined;
  #closed = false;

  constructor(settings: GvisorSettings) {
    this.#settings = settings;
  }

  async capabilities(): Promise<IsolationCapabilities> {
    const { cgroups, loopDisks } = await this.#open();
    const notes = cgroups.notes.map(
      (note) =>
        `${note}: run the worker as root on a host with a writable /sys/fs/cgroup (container: --cgroupns=host)`,
    );
    if (!loopDisks.ok) {
      notes.push(
        `workspace sizes are not bounded, loop disks do not work here (${loopDisks.reason}): modprobe loop`,
      );
    }
    const forwarding = await forwardingProblem();
    const cannotSave = await checkpointProblem(this.#settings.runscPath);
    return {
      driver: "gvisor",
      driverVersion: await runscVersion(this.#settings.runscPath),
      architecture: process.arch === "arm64" ? "arm64" : "x64",
      limits: { cpu: cgroups.usable.has("cpu"), memory: cgroups.usable.has("memory"), disk: loopDisks.ok },
      network: true,
      checkpoint: cannotSave === undefined,
      notes: [...notes, ...[forwarding, cannotSave].filter((note) => note !== undefined)],
    };
  }

  async start(spec: GuestSpec): Promise<Guest> {
    checkSpec(spec);
    return this.#keep(spec, async (context) => (await StartingGuest.begin(context, spec)).run());
  }

  async prepareRestore(spec: GuestSpec, directory: string): Promise<PreparedRestore> {
    checkSpec(spec);
    return this.#wait(spec, directory, (checkpoint) => this.#checkRestorable(spec, directory, checkpoint));
  }

  async restore(
    spec: GuestSpec,
    checkpoint: { readonly directory: string; readonly record: CheckpointRecord },
  ): Promise<Guest> {
    checkSpec(spec);
    const { directory, record } = checkpoint;
    await this.#checkRestorable(spec, directory, checkpoint);
    return (await this.#wait(spec, directory, async () => undefined)).restore({ record });
  }

  checkpointHost(): Promise<CheckpointHost> {
    return checkpointHost(this.#settings.runscPath);
  }

  /** In the order of their cost, before anything is acquired. */
  async #checkRestorable(
    spec: GuestSpec,
    directory: string,
    { record, written }: RestorableCheckpoint,
  ): Promise<void> {
    const fits = isCompatible(record, await this.checkpointHost());
    if (!fits.compatible) throw new IsolationError("checkpoint", fits.reason);
    const digests = specDigests(spec, this.#settings.extraCaCertificates !== undefined);
    const difference = specDifference(record, digests, spec.root.digest);
    if (difference !== undefined) throw new IsolationError("checkpoint", `guest "${spec.id}": ${difference}`);
    await verifyImage(directory, record.files, written);
  }

  #wait(
    spec: GuestSpec,
    directory: string,
    check: (checkpoint: RestorableCheckpoint) => Promise<void>,
  ): Promise<WaitingGuest> {
    const image = path.resolve(directory);
    return this.#keep(
      spec,
      async (context) => new WaitingGuest(await StartingGuest.begin(context, spec, image), check),
    );
  }

  /** One guest per id, from before it starts until it has ended. */
  async #keep<T extends Held>(spec: GuestSpec, start: (context: HostContext) => Promise<T>): Promise<T> {
    if (this.#guests.has(spec.id))
      throw new IsolationError("spec", `a guest "${spec.id}" is running already`);
    const starting = this.#open().then(start);
    this.#guests.set(spec.id, starting);
    try {
      const guest = await starting;
      const forget = () => this.#guests.delete(spec.id);
      guest.gone.then(forget, forget);
      return guest;
    } catch (error) {
      this.#guests.delete(spec.id);
      throw error;
    }
  }

  async recover(): Promise<{ readonly guestsRemoved: number }> {
    if (this.#guests.size > 0)
      throw new IsolationError("host", "recover() must be called before the first start()");
    const context = await this.#open();
    await context.network.close();
    const guestsRemoved = await removeLeftovers(this.#settings);
    await makeFolders(this.#settings);
    return { guestsRemoved };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const context = await this.#context?.catch(() => undefined);
    const guests = await Promise.allSettled(this.#guests.values());
    await Promise.all(
      guests.map((guest) => (guest.status === "fulfilled" ? guest.value.destroy() : undefined)),
    );
    if (context === undefined) return;
    await context.roots.close();
    await context.network.close();
    await removeLeftovers(this.#settings);
    await rm(path.join(this.#settings.stateDir, "owner.json"), { force: true });
  }

  async #open(): Promise<HostContext> {
    if (this.#closed) throw new IsolationError("host", "this isolation driver is closed");
    const context = this.#context ?? openContext(this.#settings);
    this.#context = context;
    try {
      return await context;
    } catch (error) {
      if (this.#context === context) this.#context = undefined; // The next call may find the host mended.
      throw error;
    }
  }
}

async function openContext(settings: GvisorSettings): Promise<HostContext> {
  await mkdir(settings.stateDir, { recursive: true, mode: 0o700 });
  await takeOwnership(settings.stateDir);
  await makeFolders(settings);
  if ((await readdir(settings.guestsDir)).length > 0) {
    settings.logger.warn(
      { stateDir: settings.stateDir },
      "a dead worker left guests behind; recover() removes them",
    );
  }
  return {
    settings,
    cgroups: await probeCgroups(settings.tag),
    loopDisks: await probeLoopDisks(path.join(settings.stateDir, "disks")),
    roots: new RootStore(settings),
    network: new NetworkManager(settings),
    logger: settings.logger,
  };
}

/** One live worker per state folder: recovery of a second one would remove the first one's guests. */
async function takeOwnership(stateDir: string): Promise<void> {
  const file = path.join(stateDir, "owner.json");
  const text = await readFile(file, "utf8").catch(() => "");
  const [pid = "", startTime] = text.trim().split(" ");
  if (text !== "" && Number(pid) !== process.pid && (await processStartTime(Number(pid))) === startTime) {
    throw new IsolationError(
      "host",
      `${stateDir} belongs to the running worker ${pid}: give this one its own folder`,
    );
  }
  const own = `${process.pid} ${await processStartTime(process.pid)}\n`;
  await writeFile(`${file}.new`, own, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

function checkSpec(spec: GuestSpec): void {
  const problem = specProblem(spec);
  if (problem !== undefined) throw new IsolationError("spec", `guest "${spec.id}": ${problem}`);
}

function specProblem(spec: GuestSpec): string | undefined {
  if (!/^[a-z0-9-]{1,40}$/.test(spec.id) || spec.id === "shared") return "the id must match [a-z0-9-]{1,40}";
  if (spec.argv.length === 0) return "argv is empty";
  if (!spec.cwd.startsWith("/")) return "cwd must be absolute";
  const { cpu, memoryMib, diskMib } = spec.resources;
  if (!(cpu > 0) || !(memoryMib >= 32) || !(diskMib >= 1)) {
    return "resources must be at least some CPU, 32 MiB of memory and 1 MiB of disk";
  }
  if (!Number.isInteger(spec.maxProcesses) || spec.maxProcesses < 1) return "maxProcesses must be at least 1";
  const relative = spec.mounts.find(
    (mount) => !/^\/[^\0]*$/.test(mount.destination) || mount.destination === "/",
  );
  if (relative !== undefined) return `cannot mount on "${relative.destination}"`;
  const ports = spec.network.workerPorts ?? [];
  const badPort = ports.find((port) => !Number.isInteger(port) || port < 1 || port > 65_535);
  return badPort === undefined ? undefined : `${badPort} is no TCP port`;
}
