/**
 * Everything of one folder's cluster is removed from this machine: processes, guests, mounts, network. For the end of a run,
 * and for what a driver that was killed left (reaper.ts).
 *
 *   C1 Only what is the folder's: processes that name it on their command line, mounts below it, and what carries the tag
 *      of a worker whose state lies in it (/run/helmr/TAG/owner).
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const owners = "/run/helmr";
const settleMs = 10_000;

function output(command: string, ...args: string[]): string[] {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n");
  } catch {
    return [];
  }
}

/** Of the workers whose state is below the folder. */
export function tagsOf(folder: string): string[] {
  const tags: string[] = [];
  for (const tag of listed(owners)) {
    try {
      if (readFileSync(`${owners}/${tag}/owner`, "utf8").startsWith(`${folder}/`)) tags.push(tag);
    } catch {
      // Of nobody, or gone meanwhile.
    }
  }
  return tags;
}

/** `pid command` of the processes that name the folder, ourselves and our parents left out. */
export function processesOf(folder: string): { readonly pid: number; readonly command: string }[] {
  const found: { pid: number; command: string }[] = [];
  for (const name of listed("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid || pid === process.ppid) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      // A reaper names the folder too, and goes by itself.
      if (command.includes(folder) && !command.includes("reaper.ts")) found.push({ pid, command });
    } catch {
      // Gone meanwhile.
    }
  }
  return found;
}

export function mountsOf(folder: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${folder}/`));
}

/** Deepest first. */
function unmountAll(folder: string): void {
  for (const point of mountsOf(folder).sort().reverse()) output("umount", "--lazy", point);
}

export interface NetworkParts {
  readonly namespaces: readonly string[];
  readonly links: readonly string[];
  readonly tables: readonly string[];
}

/** What carries one of the tags: namespace `helmr-TAG-…`, device `hTAG.…`, table `helmr_TAG`. */
export function networkOf(tags: readonly string[]): NetworkParts {
  const word = (line: string) => line.trim().split(/[\s@:]+/)[0] ?? "";
  const ours = (names: readonly string[]) =>
    names.filter((name) => tags.some((tag) => new RegExp(`^(?:helmr[-_]|h)${tag}(?:[-.]|$)`).test(name)));
  return {
    namespaces: ours(output("ip", "netns", "list").map(word)),
    links: ours(output("ip", "-o", "link").map((line) => word(line.replace(/^\d+:\s*/, "")))),
    tables: ours(output("nft", "list", "tables").map((line) => line.split(" ")[2] ?? "")),
  };
}

/** All that there is of it, for people. */
export function remainsOf(folder: string, tags: readonly string[]): string[] {
  const { namespaces, links, tables } = networkOf(tags);
  return [
    ...processesOf(folder).map(({ pid, command }) => `process ${pid}: ${command.slice(0, 160)}`),
    ...mountsOf(folder).map((point) => `mount ${point}`),
    ...namespaces.map((name) => `network namespace ${name}`),
    ...links.map((name) => `network device ${name}`),
    ...tables.map((name) => `nftables table ${name}`),
  ];
}

/** C1. Resolves to what could not be removed. */
export async function cleanUp(folder: string): Promise<string[]> {
  const tags = tagsOf(folder);
  const deadline = Date.now() + settleMs;
  for (let found = processesOf(folder); found.length > 0; found = processesOf(folder)) {
    for (const { pid } of found) killOne(pid);
    if (Date.now() > deadline) break;
    await sleep(50);
  }
  unmountAll(folder);
  const { namespaces, links, tables } = networkOf(tags);
  for (const name of namespaces) output("ip", "netns", "delete", name);
  for (const name of links) output("ip", "link", "delete", name);
  for (const name of tables) output("nft", "delete", "table", "inet", name);
  for (const tag of tags) {
    unmountAll(`${owners}/${tag}`);
    rmSync(`${owners}/${tag}`, { recursive: true, force: true });
  }
  return remainsOf(folder, tags);
}

function killOne(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone meanwhile.
  }
}

function listed(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
