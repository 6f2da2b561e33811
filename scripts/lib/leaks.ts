/** What a test run could leave on the machine: processes, mounts, network namespaces and devices, nftables tables. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** Everything Helmr makes outside a folder is named so. */
const PREFIX = /^helmr/;

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

function network(): string[] {
  const word = (line: string) => line.trim().split(/[\s@:]+/)[0] ?? "";
  const namespaces = lines("ip", "netns", "list").map(word);
  const links = lines("ip", "-o", "link").map((line) => word(line.replace(/^\d+:\s*/, "")));
  const tables = lines("nft", "list", "tables").map((line) => line.split(" ")[2] ?? "");
  // A namespace in use belongs to a stack that runs beside the tests, or to a process that is reported by itself.
  const abandoned = (name: string) => !lines("ip", "netns", "pids", name).some((line) => line.trim() !== "");
  return [
    ...namespaces
      .filter((name) => PREFIX.test(name) && abandoned(name))
      .map((name) => `network namespace ${name}`),
    ...links.filter((name) => PREFIX.test(name)).map((name) => `network device ${name}`),
    ...tables.filter((name) => PREFIX.test(name)).map((name) => `nftables table ${name}`),
  ];
}

/** All of it that there is now; `folder` is the run's temporary folder. */
export function snapshot(folder: string): ReadonlySet<string> {
  if (process.platform !== "linux") return new Set();
  return new Set([...processes(folder), ...mounts(folder), ...network()]);
}

/** What is there now and was not before. */
export function leftOver(before: ReadonlySet<string>, now: ReadonlySet<string>): string[] {
  return [...now].filter((thing) => !before.has(thing));
}
