/** The programs of an installation as processes of their own, and what the kernel says of processes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Resolves when the program says that it is ready. */
export async function startProgram(
  parts: AsyncDisposableStack,
  path: string,
  args: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<{ pid: number; url: string | undefined }> {
  const { PATH, HOME, TMPDIR } = process.env;
  const program = join(import.meta.dirname, "../packages", path);
  const env = { PATH, HOME, TMPDIR, NO_COLOR: "1", ...variables };
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  parts.defer(async () => {
    child.kill("SIGTERM");
    await exited;
  });
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise<string>((resolve) => {
    lines.on("line", (line) => {
      if (line.includes("is ready")) resolve(line);
    });
  });
  const ended = exited.then(([code]) =>
    Promise.reject(new Error(`${path} ended with ${code} before it was ready`)),
  );
  ended.catch(() => undefined); // told by the race, or the end that was asked for
  const line = await Promise.race([ready, ended]);
  return { pid: child.pid ?? 0, url: /"url":"([^"]+)"/.exec(line)?.[1] };
}

/** Those processes and all below them. */
export async function treesOf(roots: readonly number[]): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = new Map(
    await Promise.all(pids.map(async (pid) => [pid, (await statOf(pid)).parent] as const)),
  );
  const found = new Set(roots);
  for (let size = 0; size !== found.size; ) {
    size = found.size;
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid);
  }
  return [...found];
}

/** Clock ticks of user and system time; Linux shows 100 a second. */
export async function cpuSeconds(pids: readonly number[]): Promise<number> {
  return sum((await Promise.all(pids.map(statOf))).map(({ ticks }) => ticks)) / 100;
}

/** All zero for a process that has ended meanwhile. */
async function statOf(pid: number): Promise<{ parent: number; ticks: number }> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The name, in parentheses, may hold anything; the fields behind it are state, parent, …
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // utime, stime, and those of the children that have ended: PostgreSQL's servers end with their connections.
  const ticks = sum([11, 12, 13, 14].map((index) => Number(fields[index] ?? 0)));
  return { parent: Number(fields[1] ?? 0), ticks };
}

/** Proportional set size; 0 for a process that has ended meanwhile. */
export async function proportionalBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
}

export async function socketsOf(pid: number): Promise<number> {
  const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")));
  return targets.filter((target) => target.startsWith("socket:")).length;
}

export const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
