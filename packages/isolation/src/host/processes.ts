/** Finding and ending host processes by what their command line names; used where no cgroup can tell. */
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { IsolationError } from "../errors.ts";
import { killProcess } from "./cgroup.ts";

const killTimeoutMs = 10_000;

/** Processes that have an argument containing one of the paths. Paths are long and unique to an instance or guest. */
export async function processesNaming(paths: readonly string[]): Promise<number[]> {
  const entries = (await readdir("/proc")).filter(
    (name) => /^\d+$/.test(name) && Number(name) !== process.pid,
  );
  const matches = await Promise.all(
    entries.map(async (pid) => {
      // A process that ended meanwhile has no command line, and names nothing.
      const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return /^[^\0]*runsc/.test(commandLine) && paths.some((path) => commandLine.includes(path));
    }),
  );
  return entries.filter((_, index) => matches[index]).map(Number);
}

/** SIGKILL to them until none is left. */
export async function killProcessesNaming(paths: readonly string[]): Promise<void> {
  const deadline = Date.now() + killTimeoutMs;
  for (;;) {
    const pids = await processesNaming(paths);
    if (pids.length === 0) return;
    if (Date.now() > deadline) throw new IsolationError("sandbox", `processes ${pids.join(", ")} do not die`);
    for (const pid of pids) killProcess(pid);
    await delay(5);
  }
}

/** When a process started, in clock ticks since boot: with its id it names one process for good. */
export async function processStartTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The second field is the command in parentheses and may hold spaces; start time is field 22.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}
