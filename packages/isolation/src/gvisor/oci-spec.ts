/** The OCI runtime specification of a guest, as far as runsc reads it. Pure. */
import { gateArgv } from "../host/gate.ts";
import { caEnvironment, guestHostname } from "../host/guest-base.ts";
import type { GuestMount, GuestSpec } from "../isolation.ts";

/** Docker's default set without what lets a guest's root pass its process limit (SYS_RESOURCE is in neither). */
const capabilities = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const openFilesLimit = 65_536;

export interface OciSpecOptions {
  readonly rootPath: string;
  readonly cgroupPath: string | undefined;
  readonly networkNamespacePath: string | undefined;
  readonly extraCa: boolean;
  /** The sandbox is made and waits there (host/gate.ts) before it is restored. */
  readonly gatePath?: string | undefined;
}

export function ociSpec(spec: GuestSpec, options: OciSpecOptions): Record<string, unknown> {
  return {
    ociVersion: "1.2.0",
    hostname: guestHostname,
    root: { path: options.rootPath, readonly: false },
    process: {
      terminal: false,
      user: ociUser(spec.user),
      args: spec.argv,
      env: environment(spec, options.extraCa),
      cwd: spec.cwd,
      noNewPrivileges: false,
      capabilities: capabilitySets(spec.user.uid),
      rlimits: [
        { type: "RLIMIT_NPROC", soft: spec.maxProcesses, hard: spec.maxProcesses },
        { type: "RLIMIT_NOFILE", soft: openFilesLimit, hard: openFilesLimit },
        { type: "RLIMIT_CORE", soft: 0, hard: 0 },
      ],
    },
    mounts: [...standardMounts(spec), ...spec.mounts.map(ociMount)],
    ...(options.gatePath === undefined ? {} : { hooks: gateHook(options.gatePath) }),
    linux: {
      ...(options.cgroupPath === undefined ? {} : { cgroupsPath: options.cgroupPath }),
      namespaces: [
        { type: "pid" },
        { type: "ipc" },
        { type: "uts" },
        { type: "mount" },
        options.networkNamespacePath === undefined
          ? { type: "network" }
          : { type: "network", path: options.networkNamespacePath },
      ],
    },
  };
}

/** runsc runs it when it has made the sandbox. Hooks are the part of a specification that may be another one at a restore. */
function gateHook(gatePath: string): Record<string, unknown> {
  return { createRuntime: [{ path: "/bin/sh", args: gateArgv(gatePath) }] };
}

/** Without an empty list: at a restore runsc tells an absent one from an empty one, and saves the empty as absent. */
function ociUser({ uid, gid, additionalGids }: GuestSpec["user"]): Record<string, unknown> {
  return additionalGids.length === 0 ? { uid, gid } : { uid, gid, additionalGids };
}

/** As Linux does it at execve: only root starts with capabilities; others may gain them through setuid programs. */
function capabilitySets(uid: number): Record<string, readonly string[]> {
  const active = uid === 0 ? capabilities : [];
  return { bounding: capabilities, effective: active, permitted: active, inheritable: [], ambient: [] };
}

function environment(spec: GuestSpec, extraCa: boolean): string[] {
  const merged = { PATH: defaultPath, ...(extraCa ? caEnvironment() : {}), ...spec.env };
  return Object.entries(merged).map(([name, value]) => `${name}=${value}`);
}

/** tmpfs is memory of the guest: none may fill it alone. The sentry itself provides /proc, /sys and /dev. */
function standardMounts(spec: GuestSpec): Record<string, unknown>[] {
  const halfMib = Math.max(16, Math.floor(spec.resources.memoryMib / 2));
  const all = [
    { destination: "/proc", type: "proc", source: "proc" },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro", "nosuid", "nodev", "noexec"] },
    tmpfs("/dev/shm", halfMib, ["mode=1777", "nosuid", "nodev"]),
    tmpfs("/tmp", halfMib, ["mode=1777", "nosuid", "nodev"]),
    tmpfs("/run", Math.min(64, halfMib), ["mode=0755", "nosuid", "nodev"]),
  ];
  const replaced = new Set(spec.mounts.map((mount) => mount.destination));
  return all.filter((mount) => !replaced.has(mount.destination));
}

function tmpfs(destination: string, sizeMib: number, options: readonly string[]) {
  return { destination, type: "tmpfs", source: "tmpfs", options: [...options, `size=${sizeMib}m`] };
}

function ociMount(mount: GuestMount): Record<string, unknown> {
  const access = mount.readOnly ? "ro" : "rw";
  if (mount.source.kind === "tmpfs") {
    return tmpfs(mount.destination, mount.source.sizeMib, [access, "mode=1777", "nosuid", "nodev"]);
  }
  return {
    destination: mount.destination,
    type: "bind",
    source: mount.source.path,
    options: ["rbind", access, "nosuid", "nodev"],
  };
}
