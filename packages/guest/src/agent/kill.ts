/**
 * Ends what a task left behind: forked children, daemons in sessions of their own.
 *
 *  K1  In a guest everything but PID 1, the agent and what operators started is the task's, and all of it ends. Without
 *      operators `kill(-1)` does that at once, without a race against forks.
 *  K2  What operators started is told by its mark (operators.ts), by its session while its leader runs, or by its parents:
 *      a program may have cleared its environment.
 *  K3  A task that forks faster than its processes are found and killed one by one costs the operators their commands, too.
 *
 * Elsewhere (unit tests run the agent as a plain process) only the session and its descendants are ended.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { guestPaths } from "@helmr/guest-protocol/constants";
import { type Operators, operatorMark } from "./operators.ts";

interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
}

const maxRounds = 5;
const roundMs = 10;
/** A killed process takes a moment to end. */
const sparingLimitMs = 2_000;

/** Kill every process of the session that `leader` started, and their descendants. */
export function killSessionTree(leader: number): void {
  for (let round = 0; round < maxRounds; round++) {
    const found = sessionTree(leader);
    if (found.length === 0) return;
    for (const pid of found) trySignal(pid, "SIGKILL");
  }
}

/** In a guest every process but PID 1 and the agent: build guests have no operators. */
export function killEverything(leader: number): void {
  if (ownsPidNamespace()) trySignal(-1, "SIGKILL");
  else killSessionTree(leader);
}

/** K1, K2. Resolves when nothing of the task is left. */
export async function killTaskLeftovers(leader: number, operators: Operators): Promise<void> {
  if (!ownsPidNamespace()) return killSessionTree(leader);
  for (const limit = performance.now() + sparingLimitMs; operators.used && performance.now() < limit; ) {
    const found = tasksProcesses(operators);
    if (found.length === 0) return;
    for (const pid of found) trySignal(pid, "SIGKILL");
    await sleep(roundMs);
  }
  killEverything(leader); // K1, K3
}

/** Signal the processes of the session itself, none that made a session of its own. */
export function signalSession(leader: number, signal: NodeJS.Signals): void {
  for (const { pid, session } of processes()) if (session === leader) trySignal(pid, signal);
}

function tasksProcesses(operators: Operators): number[] {
  const all = processes();
  const { leaders } = operators;
  const spared = withDescendants(
    all,
    all.filter(({ pid, session }) => leaders.has(session) || isMarked(pid)).map(({ pid }) => pid),
  );
  return all.filter(({ pid }) => pid !== 1 && pid !== process.pid && !spared.has(pid)).map(({ pid }) => pid);
}

function isMarked(pid: number): boolean {
  try {
    const environ = readFileSync(`/proc/${pid}/environ`, "latin1");
    return `\0${environ}`.includes(`\0${operatorMark}=`);
  } catch {
    // It ended while we looked.
    return false;
  }
}

/** Whether PID 1 is the agent or the shell that `agentArgv` starts it from: then all processes here are the guest's. */
function ownsPidNamespace(): boolean {
  if (process.pid === 1) return true;
  try {
    return readFileSync("/proc/1/cmdline", "utf8").includes(guestPaths.agent);
  } catch {
    // Not readable: not ours.
    return false;
  }
}

/** Send a signal; a process that is gone already is no error. */
export function trySignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function sessionTree(leader: number): number[] {
  const all = processes();
  const session = all.filter((entry) => entry.session === leader).map((entry) => entry.pid);
  const members = withDescendants(all, [leader, ...session]);
  return all.filter((entry) => members.has(entry.pid) && entry.pid !== process.pid).map((entry) => entry.pid);
}

function withDescendants(all: readonly ProcessEntry[], roots: readonly number[]): ReadonlySet<number> {
  const members = new Set(roots);
  for (let grown = true; grown; ) {
    grown = false;
    for (const entry of all) {
      if (members.has(entry.parent) && !members.has(entry.pid)) {
        members.add(entry.pid);
        grown = true;
      }
    }
  }
  return members;
}

function processes(): ProcessEntry[] {
  const entries: ProcessEntry[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // pid (comm) state ppid pgrp session ...; comm may hold spaces and parentheses.
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const [state, parent, , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (state !== "Z")
        entries.push({ pid: Number(name), parent: Number(parent), session: Number(session) });
    } catch {
      // It ended while we looked.
    }
  }
  return entries;
}
