/** What a test run could leave on the machine: processes, mounts, network namespaces and devices, nftables tables. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** What a worker makes outside its folders carries its tag: namespace `helmr-TAG-…`, device `hTAG.…`, table `helmr_TAG`. */
const TAGGED = /^(?:helmr[-_]|h)([0-9a-f]{6})(?:[-.][0-9a-f]{4})?$/;
/** Where each worker says which state folder its tag stands for (`/run/helmr/TAG/owner`). */
const OWNERS = "/run/helmr";

function lines(command: string, ...args: string[]): string[] {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n");
  } catch {
    return []; // not installed, or not allowed: then none of them were made either
  }
}

/** `pid command` of every process that names `folder` on its command line, our own family left out. */
function processes(folder: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    let command = "";
    try {
      command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    } catch {
      continue; // gone meanwhile
    }
    if (command.includes(folder)) found.push(`process ${pid}: ${command.slice(0, 200)}`);
  }
  return found;
}

function mounts(folder: string): string[] {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "");
  return points.filter((point) => point.startsWith(`${folder}/`)).map((point) => `mount ${point}`);
}

/**
 * Whether a name is of a worker whose state folder is not below `folder`: of another stack on this machine. A tag that
 * nobody claims is nobody else's, so that what a dead worker of ours left is found.
 */
export function isOfAnother(name: string, folder: string, owners = OWNERS): boolean {
  const tag = TAGGED.exec(name)?.[1];
  if (tag === undefined) return true;
  try {
    return !readFileSync(`${owners}/${tag}/owner`, "utf8").startsWith(`${folder}/`);
  } catch {
    return false;
  }
}

function network(folder: string): string[] {
  const word = (line: string) => line.trim().split(/[\s@:]+/)[0] ?? "";
  const namespaces = lines("ip", "netns", "list").map(word);
  const links = lines("ip", "-o", "link").map((line) => word(line.replace(/^\d+:\s*/, "")));
  const tables = lines("nft", "list", "tables").map((line) => line.split(" ")[2] ?? "");
  const ours = (names: readonly string[], what: string) =>
    names.filter((name) => !isOfAnother(name, folder)).map((name) => `${what} ${name}`);
  return [
    ...ours(namespaces, "network namespace"),
    ...ours(links, "network device"),
    ...ours(tables, "nftables table"),
  ];
}

/** All of it that there is now; `folder` is the run's temporary folder. */
export function snapshot(folder: string): ReadonlySet<string> {
  if (process.platform !== "linux") return new Set();
  return new Set([...processes(folder), ...mounts(folder), ...network(folder)]);
}

/** What is there now and was not before. */
export function leftOver(before: ReadonlySet<string>, now: ReadonlySet<string>): string[] {
  return [...now].filter((thing) => !before.has(thing));
}
