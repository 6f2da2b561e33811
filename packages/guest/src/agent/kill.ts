/**
 * Ends what a task or command left behind: forked children, daemons in sessions of their own.
 *
 * In a guest everything but the agent and PID 1 is the task's, so `kill(-1)` ends all at once, without a race against
 * forks. Elsewhere (unit tests run the agent as a plain process) only the session and its descendants are ended.
 */
import { readdirSync, readFileSync } from "node:fs";
import { guestPaths } from "@helmr/guest-protocol/constants";

interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
}

const maxRounds = 5;

/** Kill every process of the session that `leader` started, and in a guest every other process, too. */
export function killLeftovers(leader: number, options: { readonly everything: boolean }): void {
  if (options.everything && ownsPidNamespace()) {
    trySignal(-1, "SIGKILL");
    return;
  }
  for (let round = 0; round < maxRounds; round++) {
    const found = sessionOf(leader);
    if (found.length === 0) return;
    for (const pid of found) trySignal(pid, "SIGKILL");
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

function sessionOf(leader: number): number[] {
  const all = processes();
  const members = new Set(all.filter((entry) => entry.session === leader).map((entry) => entry.pid));
  members.add(leader);
  for (let grown = true; grown; ) {
    grown = false;
    for (const entry of all) {
      if (members.has(entry.parent) && !members.has(entry.pid)) {
        members.add(entry.pid);
        grown = true;
      }
    }
  }
  return all.filter((entry) => members.has(entry.pid) && entry.pid !== process.pid).map((entry) => entry.pid);
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
