/**
 * Overlay mounts on the host, and the removal of everything mounted below a folder.
 *
 * M1  Every mount this package makes lies below its state folder (or at a mount point the caller names), so that
 *     recovery needs no record: it unmounts what /proc/self/mountinfo shows below that folder.
 */
import { mkdir, readFile, realpath } from "node:fs/promises";
import path from "node:path";
import { IsolationError } from "../errors.ts";
import { hostCommand, tryHostCommand } from "./command.ts";

export interface OverlaySpec {
  /** Topmost first, as in overlayfs' lowerdir. */
  readonly lowers: readonly string[];
  /** Both or neither; `work` must be an empty folder on the file system of `upper`. */
  readonly upper?: string;
  readonly work?: string;
  /** Mount point; created. */
  readonly target: string;
}

/** Mount a tmpfs that only root can enter; the folder is made. */
export async function mountTmpfs(target: string, sizeMib: number): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 });
  const options = `size=${sizeMib}m,mode=0700,nosuid,nodev`;
  await hostCommand("mount", ["-t", "tmpfs", "-o", options, "helmr-staging", target], {
    layer: "filesystem",
  });
}

/** mount(2) passes its options in one page. */
const mountOptionsLimitBytes = 4095;

/**
 * Mount an overlay: read-only without `upper`. One lower and no upper is a read-only bind mount, because overlayfs
 * wants two. Lower paths are given relative to their common parent, so that 100 layers fit into the options page.
 */
export async function mountOverlay(spec: OverlaySpec): Promise<void> {
  const [first] = spec.lowers;
  if (first === undefined)
    throw new IsolationError("filesystem", "an overlay needs at least one lower folder");
  await mkdir(spec.target, { recursive: true });
  if (spec.upper === undefined && spec.lowers.length === 1) {
    await hostCommand("mount", ["--bind", "-o", "ro", first, spec.target], { layer: "filesystem" });
    return;
  }
  const cwd = commonParent(spec.lowers);
  const options = overlayOptions(spec, cwd);
  if (Buffer.byteLength(options) > mountOptionsLimitBytes) {
    throw new IsolationError(
      "filesystem",
      `an overlay of ${spec.lowers.length} layers does not fit into the kernel's mount options; squash the image`,
    );
  }
  const args = ["-t", "overlay", "helmr-overlay", "-o", options, path.resolve(spec.target)];
  await hostCommand("mount", args, { layer: "filesystem", cwd });
}

function overlayOptions(spec: OverlaySpec, cwd: string): string {
  const lowers = spec.lowers.map((lower) => overlayPath(path.relative(cwd, lower) || "."));
  const options = [`lowerdir=${lowers.join(":")}`];
  if (spec.upper === undefined || spec.work === undefined) return [...options, "ro"].join(",");
  return [...options, `upperdir=${overlayPath(spec.upper)}`, `workdir=${overlayPath(spec.work)}`].join(",");
}

/** Colons and commas separate overlay options; the escapes differ between kernel versions, so they are refused. */
function overlayPath(value: string): string {
  if (!/[:,\\]/.test(value)) return value;
  throw new IsolationError(
    "filesystem",
    `"${value}" cannot be part of an overlay: move it to a path without : , \\`,
  );
}

function commonParent(paths: readonly string[]): string {
  const split = paths.map((entry) => path.dirname(path.resolve(entry)).split("/"));
  const [first = []] = split;
  const length = first.findIndex((part, index) => split.some((parts) => parts[index] !== part));
  return (length === -1 ? first : first.slice(0, length)).join("/") || "/";
}

/** Unmount if mounted; a busy mount is detached lazily, so that its users end without a dangling mount point. */
export async function unmount(target: string): Promise<void> {
  if (!(await isMountPoint(target))) return;
  const direct = await tryHostCommand("umount", [target], { layer: "filesystem" });
  if (direct.ok || !(await isMountPoint(target))) return;
  await hostCommand("umount", ["-l", target], { layer: "filesystem" });
}

/** Mount points, in mounting order. */
export async function listMountPoints(): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table.split("\n").flatMap((line) => {
    const target = line.split(" ")[4];
    return target === undefined ? [] : [target.replace(/\\([0-7]{3})/g, unescapeOctal)];
  });
}

function unescapeOctal(_match: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}

export async function isMountPoint(target: string): Promise<boolean> {
  const resolved = await realpath(target).catch(() => path.resolve(target));
  return (await listMountPoints()).includes(resolved);
}

/** Unmount everything below a folder, newest first (M1). Returns how many mounts were there. */
export async function unmountBelow(folder: string): Promise<number> {
  const resolved = await realpath(folder).catch(() => path.resolve(folder));
  const below = (await listMountPoints()).filter((target) => target.startsWith(`${resolved}/`)).reverse();
  for (const target of below) await unmount(target);
  return below.length;
}
