/** What importing the package does by itself: a process of its own imports it once and reports what it reached for. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Npm, tail } from "./command.ts";

export interface Load {
  readonly status: "loaded" | "failed" | "timed out";
  /** Hosts it connected to and programs it started while being imported. */
  readonly reachedFor: readonly string[];
  readonly exports: number;
  readonly detail?: string;
}

const loadTimeoutMs = 20_000;

/** Run before the package: notes connections and child processes, and lets them fail. */
const probe = `
import childProcess from "node:child_process";
import { writeFileSync } from "node:fs";
import net from "node:net";
import { syncBuiltinESMExports } from "node:module";
const reached = new Set();
const refuse = (what) => { reached.add(what); throw new Error("not during this import: " + what); };
net.Socket.prototype.connect = function (...args) {
  const [first] = args.flat();
  refuse("network " + (first?.host ?? first?.path ?? first));
};
for (const name of ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"]) {
  childProcess[name] = (file) => refuse("program " + String(file).slice(0, 200));
}
syncBuiltinESMExports();
const [, , name, answer] = process.argv;
const outcome = await import(name).then(
  (loaded) => ({ status: "loaded", exports: Object.keys(loaded).length }),
  (error) => ({ status: "failed", exports: 0, detail: String(error?.message ?? error).slice(0, 1000) }),
);
// What it starts right after its import counts as well.
await new Promise((resolve) => setTimeout(resolve, 500));
writeFileSync(answer, JSON.stringify({ ...outcome, reachedFor: [...reached].slice(0, 20) }));
process.exit(0);
`;

export async function probeLoad(npm: Npm, name: string, installDir: string): Promise<Load> {
  const script = join(installDir, "probe.mjs");
  const answer = join(installDir, "probe.json");
  await writeFile(script, probe);
  const result = await npm.run(["node", script, name, answer], { cwd: installDir, timeoutMs: loadTimeoutMs });
  if (result.timedOut)
    return {
      status: "timed out",
      reachedFor: [],
      exports: 0,
      detail: `still importing after ${loadTimeoutMs / 1000} s`,
    };
  try {
    return JSON.parse(await readFile(answer, "utf8")) as Load;
  } catch {
    return {
      status: "failed",
      reachedFor: [],
      exports: 0,
      detail: `it ended the process (exit code ${result.exitCode})\n${tail(result)}`,
    };
  }
}
