/** Whether this host can run guests under gVisor; every problem with the command that mends it. */
import { access, constants, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { messageOf } from "../errors.ts";
import { tryHostCommand } from "../host/command.ts";
import { createGvisorIsolation } from "./driver.ts";

export interface HostProblem {
  /** What is missing and what it is needed for. */
  readonly what: string;
  /** The command (or the one action) that mends it. */
  readonly mend: string;
}

export type HostProbe =
  | { readonly ok: true }
  | { readonly ok: false; readonly problems: readonly HostProblem[] };

/** Linux capabilities: CAP_NET_ADMIN is bit 12, CAP_SYS_ADMIN bit 21. */
const neededCapabilities = [
  { bit: 12n, name: "CAP_NET_ADMIN" },
  { bit: 21n, name: "CAP_SYS_ADMIN" },
];

const neededTools = [
  { tool: "ip", args: ["-V"], debian: "iproute2", purpose: "network namespaces" },
  { tool: "nft", args: ["-v"], debian: "nftables", purpose: "guests' network rules" },
  { tool: "mkfs.ext4", args: ["-V"], debian: "e2fsprogs", purpose: "workspace disks" },
  { tool: "mount", args: ["-V"], debian: "mount", purpose: "root filesystems" },
];

/** Flags the driver passes; the youngest of them (--shared-root) came in 2026. */
const neededRunscFlags = [
  "overlay2",
  "file-access-mounts",
  "directfs",
  "allow-suid",
  "shared-root",
  "host-settings",
  "allow-live-tcp-migration",
];

export const runscInstallCommand =
  "GOBIN=/usr/local/bin go install gvisor.dev/gvisor/runsc@v0.0.0-20260905035102-160fafc42237";

/** Checks without starting anything; takes about 100 ms. */
export async function probeHost(options: { readonly runscPath: string }): Promise<HostProbe> {
  if (process.platform !== "linux") {
    const mend = "run the worker on Linux: a virtual machine (for example with Lima or WSL 2) is enough";
    return { ok: false, problems: [{ what: `guests need Linux; this is ${process.platform}`, mend }] };
  }
  const checks = await Promise.all([
    checkPrivileges(),
    ...neededTools.map(checkTool),
    checkRunsc(options.runscPath),
    checkOverlay(),
  ]);
  const problems = checks.flatMap((problem) => problem ?? []);
  return problems.length === 0 ? { ok: true } : { ok: false, problems };
}

async function checkPrivileges(): Promise<HostProblem | undefined> {
  const status = await readFile("/proc/self/status", "utf8");
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const missing = neededCapabilities.filter(({ bit }) => (effective & (1n << bit)) === 0n);
  if (missing.length === 0 && process.getuid?.() === 0) return undefined;
  const names = missing.map(({ name }) => name).join(" and ") || "user id 0";
  return {
    what: `guests need root (${names} is missing) for their network namespaces, mounts and cgroups`,
    mend: "start it with sudo; in a container add --privileged --cgroupns=host",
  };
}

async function checkTool(needed: (typeof neededTools)[number]): Promise<HostProblem | undefined> {
  const result = await tryHostCommand(needed.tool, needed.args, { layer: "host" });
  if (result.ok) return undefined;
  const what = `\`${needed.tool}\` is missing or does not run; it is needed for ${needed.purpose}`;
  return { what, mend: `apt-get install -y ${needed.debian}` };
}

async function checkRunsc(runscPath: string): Promise<HostProblem | undefined> {
  const executable = await access(runscPath, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!executable) return { what: `runsc (gVisor) is not at ${runscPath}`, mend: runscInstallCommand };
  const flags = await tryHostCommand(runscPath, ["flags"], { layer: "host" });
  const text = flags.ok ? flags.stdout + flags.stderr : "";
  const missing = neededRunscFlags.filter((flag) => !new RegExp(`^\\s*-${flag}\\b`, "m").test(text));
  if (missing.length === 0) return undefined;
  return {
    what: `${runscPath} is too old: it has no flag --${missing.join(", --")}`,
    mend: runscInstallCommand,
  };
}

async function checkOverlay(): Promise<HostProblem | undefined> {
  const listed = async () => /\toverlay$/m.test(await readFile("/proc/filesystems", "utf8"));
  if (await listed()) return undefined;
  await tryHostCommand("modprobe", ["overlay"], { layer: "host" });
  if (await listed()) return undefined;
  return {
    what: "the kernel has no overlay file system",
    mend: "modprobe overlay (or boot a kernel that has it)",
  };
}

const bootTimeoutMs = 20_000;

/** Boots a guest whose only file is runsc itself (a static binary), within 20 s: the proof that sandboxes work here. */
export async function probeBoot(options: { readonly runscPath: string }): Promise<HostProbe> {
  const directory = await mkdtemp(path.join(tmpdir(), "helmr-probe-"));
  const isolation = createGvisorIsolation({
    runscPath: options.runscPath,
    stateDir: path.join(directory, "state"),
    instanceName: "probe",
  });
  try {
    const output = await bootOnce(isolation, options.runscPath, directory);
    if (/spec:/.test(output)) return { ok: true };
    return bootProblem(`it printed ${JSON.stringify(output.slice(0, 200))}`);
  } catch (error) {
    return bootProblem(messageOf(error));
  } finally {
    await isolation.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function bootOnce(
  isolation: ReturnType<typeof createGvisorIsolation>,
  runscPath: string,
  directory: string,
): Promise<string> {
  const root = path.join(directory, "root");
  await mkdir(root);
  const guest = await isolation.start({
    id: "probe",
    root: { path: root, digest: "empty" },
    argv: ["/runsc", "--version"],
    env: {},
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
    mounts: [{ destination: "/runsc", source: { kind: "bind", path: runscPath }, readOnly: true }],
    resources: { cpu: 1, memoryMib: 256, diskMib: 16 },
    network: { mode: "none" },
    maxProcesses: 256,
  });
  const timer = setTimeout(() => void guest.destroy().catch(() => undefined), bootTimeoutMs);
  try {
    const [output] = await Promise.all([text(guest.stream), text(guest.stderr)]);
    await guest.exited;
    return output;
  } finally {
    clearTimeout(timer);
  }
}

function bootProblem(detail: string): HostProbe {
  const what = `a trivial gVisor guest did not run: ${detail}`;
  return { ok: false, problems: [{ what, mend: `replace runsc by a current one: ${runscInstallCommand}` }] };
}
