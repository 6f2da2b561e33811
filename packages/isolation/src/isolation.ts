/**
 * The Isolation interface: what every driver (gVisor today, Firecracker and QEMU later) offers the worker.
 *
 * Invariants every driver keeps (cited as I1.. in the drivers and in the contract suite):
 *  I1  Untrusted code runs only inside a guest started here, never as a host process.
 *  I2  A guest sees only the mounts, environment and network of its spec.
 *  I3  When `exited` has resolved or `destroy` has returned, nothing of the guest is left on the host: no process,
 *      mount, network namespace, cgroup or scratch file.
 *  I4  After a crash of the worker, `recover()` restores I3 for every guest the dead worker had started.
 */
import type { Duplex, Readable } from "node:stream";
import type { CheckpointFile, CheckpointHost, CheckpointRecord } from "./checkpoint.ts";

/** What a host can enforce; what it cannot is said in the run's events. */
export interface IsolationCapabilities {
  readonly driver: "gvisor" | "firecracker" | "qemu";
  readonly driverVersion: string;
  readonly architecture: "x64" | "arm64";
  /** Whether the CPU quota, memory limit and process count are enforced by cgroups on this host. */
  readonly limits: { readonly cpu: boolean; readonly memory: boolean; readonly disk: boolean };
  /** Whether guests can have a network of their own (needs root for network namespaces). */
  readonly network: boolean;
  /** Whether guests can be saved and restored; a note says why not. */
  readonly checkpoint: boolean;
  /** A sentence per capability that is missing, naming the reason and the command that mends it. */
  readonly notes: readonly string[];
}

/** Whole vCPUs, MiB of memory, MiB of writable root filesystem. */
export interface GuestResources {
  readonly cpu: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

/** `mode: "none"` has no interface but loopback. Denied CIDRs and host names are refused even if public. */
export type GuestNetwork =
  | {
      readonly mode: "none" /** Host-side TCP endpoints of this worker that stay reachable (SDK registry). */;
      readonly workerPorts?: readonly number[];
    }
  | {
      readonly mode: "internet";
      /** CIDRs (v4, v6) or host names; in addition to the worker-wide defaults (private, link-local, own addresses). */
      readonly deny: readonly string[];
      readonly workerPorts?: readonly number[];
    };

export interface GuestMount {
  /** Absolute path inside the guest; parents are created. */
  readonly destination: string;
  /** Host folder or file, or a fresh tmpfs of `sizeMib`. */
  readonly source:
    | { readonly kind: "bind"; readonly path: string }
    | { readonly kind: "tmpfs"; readonly sizeMib: number };
  readonly readOnly: boolean;
}

/** A root filesystem on this host that guests can start from; made by the image store. */
export interface RootFilesystem {
  /** Merged read-only tree on the host; shared by all guests of the image. */
  readonly path: string;
  readonly digest: string;
}

export interface GuestSpec {
  /** Unique among live guests of this worker; `^[a-z0-9-]{1,40}$`. */
  readonly id: string;
  readonly root: RootFilesystem;
  /** Host overlay upper folder for image builds: writes land there and become the layer. Absent: writes are discarded. */
  readonly captureWritesTo?: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly mounts: readonly GuestMount[];
  readonly resources: GuestResources;
  readonly network: GuestNetwork;
  /** Processes and threads at the same time. */
  readonly maxProcesses: number;
}

export type GuestExit =
  | { readonly reason: "exited"; readonly code: number }
  | { readonly reason: "signalled"; readonly signal: string }
  /** The memory limit was hit and the first process or the whole sandbox was killed by the kernel. */
  | { readonly reason: "out_of_memory" }
  /** The driver lost the guest (sentry crash, killed from outside); `detail` is for the worker's log. */
  | { readonly reason: "lost"; readonly detail: string };

export interface Guest {
  readonly id: string;
  /** stdin and stdout of the guest's first process: the byte stream the agent speaks. */
  readonly stream: Duplex;
  /** stderr of the first process, for diagnosis; the driver bounds nothing here, the reader must. */
  readonly stderr: Readable;
  /** Resolves once, after everything of the guest is gone from the host (I3). */
  readonly exited: Promise<GuestExit>;
  /** Freeze every process; a paused guest costs no CPU. */
  pause(): Promise<void>;
  /** Let the processes go on after `pause` or `checkpoint`; nothing to do for a running guest. */
  resume(): Promise<void>;
  /**
   * Save memory, processes and changes of the root filesystem into `directory`, and keep the guest stopped.
   *
   * Resolves with every process stopped at the instant that was saved, so that the caller captures the mounted folders of
   * the same instant. Then either `destroy()` (the checkpoint counts) or `resume()` (it does not; the guest goes on as if
   * nothing had happened, and only its clock has moved on). What is in the stream's pipes at that moment is in no
   * checkpoint: see `ReliableLink.quiesce`.
   *
   * When it rejects, the guest goes on as before and the folder is empty again; a guest that cannot go on is destroyed
   * (`exited` tells). A guest with `captureWritesTo` cannot be saved.
   *
   * @param options.directory An empty folder of the caller's on tmpfs: it receives guest memory in plain. Up to the guest's
   *   memory plus its written root filesystem; a full folder is a rejection.
   */
  checkpoint(options: { readonly directory: string }): Promise<CheckpointRecord>;
  /**
   * How many processes of this guest the kernel has killed because the memory limit was reached. A guest can outlive
   * that (the largest process dies, the others go on): ask when a process in the guest ended by SIGKILL. 0 where memory
   * is not limited.
   */
  oomKills(): Promise<number>;
  /** Kill and clean up; safe to call twice; resolves when I3 holds. */
  destroy(): Promise<void>;
}

export interface RestorableCheckpoint {
  readonly record: CheckpointRecord;
  /** What whoever wrote the image's files has counted meanwhile; without it they are read once more before the restore. */
  readonly written?: readonly CheckpointFile[];
}

/** A guest with its root, network, limits and sandbox, and nothing that runs in it: it waits for its checkpoint. */
export interface PreparedRestore {
  /** Go on from the checkpoint, whose image is complete now; once. As `Isolation.restore` otherwise. */
  restore(checkpoint: RestorableCheckpoint): Promise<Guest>;
  /** There will be no restore: everything is released when it resolves (I3). Nothing after `restore` was called. */
  release(): Promise<void>;
}

export interface Isolation {
  /** IPv4 address by which every guest with a network reaches its worker's `workerPorts` (listen on 127.0.0.1). */
  readonly gatewayAddress: string;
  capabilities(): Promise<IsolationCapabilities>;
  /** Start a guest; rejects with an IsolationError that says which layer failed, leaving nothing behind (I3). */
  start(spec: GuestSpec): Promise<Guest>;
  /**
   * A new guest that goes on where the checkpoint was taken: the same processes, process ids, memory, open files, tmpfs
   * and root filesystem, on a stream of its own. Resolves when its processes run.
   *
   * `spec` is that of the saved guest, but for: `id`, host folders of bind mounts (which must hold what they held at the
   * checkpoint: same names, sizes and times), the root's path, `workerPorts` and the deny list. The network is a new one
   * under the rules of `spec`: connections of before are reset, new ones and DNS work. Every clock, the monotonic one too,
   * shows the time of now: timers that came due meanwhile fire at once. Any number of restores of one checkpoint run
   * independently.
   *
   * Rejects with layer `checkpoint` before anything is started when record, files and host do not fit, and leaves nothing
   * behind whenever it rejects (I3). The folder is only read.
   */
  restore(
    spec: GuestSpec,
    checkpoint: { readonly directory: string; readonly record: CheckpointRecord },
  ): Promise<Guest>;
  /**
   * Make ready for a restore what needs no checkpoint, while that is still on its way into `directory`. `spec` as for `restore`; the folders of its mounts must be there, their content by the time of
   * `PreparedRestore.restore`. One of its two ends must be called; when the worker dies instead, the guest ends by itself.
   */
  prepareRestore(spec: GuestSpec, directory: string): Promise<PreparedRestore>;
  /** What `isCompatible` compares a record with. */
  checkpointHost(): Promise<CheckpointHost>;
  /** Remove what a dead worker of the same state folder left behind (I4). Call before the first `start`. */
  recover(): Promise<{ readonly guestsRemoved: number }>;
  /** Destroy every live guest and release host resources (nft table, forwarding relays). */
  close(): Promise<void>;
}
