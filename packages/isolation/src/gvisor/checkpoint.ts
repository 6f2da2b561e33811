/** The image a checkpoint consists of: its record, and the check of its files before a restore. */
import { createHash } from "node:crypto";
import { open, readdir, stat } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import type { CheckpointFile, CheckpointHost, CheckpointRecord } from "../checkpoint.ts";
import { errorCode, IsolationError } from "../errors.ts";
import { tryHostCommand } from "../host/command.ts";
import { cpuFeatures } from "../host/cpu.ts";
import type { GuestSpec } from "../isolation.ts";
import { ociSpec } from "./oci-spec.ts";
import { runscVersion } from "./version.ts";

const readBytes = 4 << 20;

/** What a restore on this host depends on. */
export async function checkpointHost(runscPath: string): Promise<CheckpointHost> {
  const [driverVersion, cpu] = await Promise.all([runscVersion(runscPath), cpuFeatures()]);
  return {
    driver: "gvisor",
    driverVersion,
    architecture: process.arch === "arm64" ? "arm64" : "x64",
    cpuFeaturesDigest: cpu.digest,
    cpuVendor: cpu.vendor,
    cpuFeatures: cpu.features,
  };
}

/** Digests of what runsc compares at a restore; host folders and the guest's id may change. */
export function specDigests(spec: GuestSpec, extraCa: boolean): CheckpointRecord["spec"] {
  const { process, mounts } = ociSpec(spec, {
    rootPath: "",
    cgroupPath: undefined,
    networkNamespacePath: undefined,
    extraCa,
  }) as { process: unknown; mounts: { destination: string; source: string }[] };
  const hasInterface = spec.network.mode === "internet" || (spec.network.workerPorts ?? []).length > 0;
  return {
    process: digestOf(process),
    mounts: digestOf(mounts.map((mount) => ({ ...mount, source: "" }))),
    resources: digestOf(spec.resources),
    network: digestOf(hasInterface),
  };
}

function digestOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

/** The record of the image in `directory`. */
export async function describeImage(
  directory: string,
  host: CheckpointHost,
  spec: GuestSpec,
  extraCa: boolean,
): Promise<CheckpointRecord> {
  const names = (await readdir(directory)).sort();
  return {
    format: 1,
    driver: host.driver,
    driver_version: host.driverVersion,
    architecture: host.architecture,
    cpu_features_digest: host.cpuFeaturesDigest,
    cpu_vendor: host.cpuVendor,
    cpu_features: [...host.cpuFeatures],
    root_digest: spec.root.digest,
    spec: specDigests(spec, extraCa),
    files: await Promise.all(names.map((name) => describeFile(directory, name))),
  };
}

/**
 * runsc notices neither a flipped bit in the pages nor every truncation: a wrong byte would be in the guest's memory.
 * `written`: what the files' writer has counted; without it they are read.
 */
export async function verifyImage(
  directory: string,
  files: readonly CheckpointFile[],
  written?: readonly CheckpointFile[],
): Promise<void> {
  for (const file of files) {
    const where = path.join(directory, file.name);
    const found = await stat(where).catch((error) => {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    });
    if (found === undefined)
      throw new IsolationError("checkpoint", `${file.name} of the checkpoint is missing`);
    if (found.size !== file.size_bytes) {
      throw new IsolationError(
        "checkpoint",
        `${file.name} of the checkpoint has ${found.size} bytes instead of ${file.size_bytes}`,
      );
    }
    const counted = written?.find(({ name }) => name === file.name);
    const { crc32: checksum } = counted ?? (await describeFile(directory, file.name));
    if (checksum !== file.crc32)
      throw new IsolationError("checkpoint", `${file.name} of the checkpoint is damaged (checksum)`);
  }
}

async function describeFile(directory: string, name: string): Promise<CheckpointFile> {
  const handle = await open(path.join(directory, name), "r");
  try {
    const buffer = Buffer.allocUnsafeSlow(readBytes);
    let checksum = 0;
    let size = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, readBytes);
      if (bytesRead === 0) break;
      checksum = crc32(buffer.subarray(0, bytesRead), checksum);
      size += bytesRead;
    }
    return { name, size_bytes: size, crc32: checksum };
  } finally {
    await handle.close();
  }
}

/** The flag that came last of those a guest is started with so that it can be saved. */
const neededFlags = ["allow-live-tcp-migration", "restore-spec-validation"];

/** Why guests of this host cannot be saved, with what mends it; undefined when they can. */
export async function checkpointProblem(runscPath: string): Promise<string | undefined> {
  const [flags, page] = await Promise.all([
    tryHostCommand(runscPath, ["flags"], { layer: "host" }),
    tryHostCommand("getconf", ["PAGESIZE"], { layer: "host" }),
  ]);
  const text = flags.ok ? flags.stdout + flags.stderr : "";
  const missing = neededFlags.filter((flag) => !new RegExp(`^\\s*-${flag}\\b`, "m").test(text));
  if (missing.length > 0)
    return `guests cannot be saved: ${runscPath} has no flag --${missing.join(", --")}; install a current runsc`;
  // gVisor's pkg/sentry/kernel SaveTo refuses other page sizes.
  if (page.ok && page.stdout.trim() !== "4096") {
    return `guests cannot be saved: this kernel has pages of ${page.stdout.trim()} bytes; boot one with 4096`;
  }
  return undefined;
}
