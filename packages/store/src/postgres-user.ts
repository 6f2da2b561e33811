/** The user that an embedded PostgreSQL runs as, and the command line that gets there. */
import type { SpawnOptions } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Ids are undefined when the server runs as the user that starts it. */
export interface ServerUser {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** PostgreSQL refuses root: then `postgres` where that user exists (a guest escaped as `nobody` must not own the data). */
export async function serverUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return { uid: undefined, gid: undefined };
  const lines = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  const entry = lines.find(([name]) => name === "postgres") ?? lines.find(([name]) => name === "nobody");
  if (entry === undefined) {
    throw new Error(
      "PostgreSQL does not run as root and there is no user for it: run `useradd --system postgres`",
    );
  }
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

export interface ServerCommand {
  readonly path: string;
  readonly args: string[];
  readonly options: SpawnOptions;
}

/**
 * The command as that user. When a folder on the way to one of `paths` is closed to it (a checkout or a data folder
 * below /root), it gets the one capability that lets it look through folders, by setpriv.
 */
export async function serverCommand(
  path: string,
  args: string[],
  user: ServerUser,
  paths: readonly string[],
): Promise<ServerCommand> {
  // A folder that every user can enter; no settings of the starter's environment (PGDATA, LC_ALL, ...).
  const options: SpawnOptions = { cwd: "/", env: { PATH: process.env.PATH ?? "", LC_ALL: "C", TZ: "UTC" } };
  const { uid, gid } = user;
  if (uid === undefined || gid === undefined) return { path, args, options };
  const reachable = await Promise.all(paths.map((each) => isReachable(each, uid, gid)));
  if (reachable.every(Boolean)) return { path, args, options: { ...options, uid, gid } };
  const capability = "+dac_read_search";
  const drop = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups"];
  return {
    path: "setpriv",
    args: [...drop, `--inh-caps=${capability}`, `--ambient-caps=${capability}`, "--", path, ...args],
    options,
  };
}

/** Whether every folder above `path` may be entered by the user. */
async function isReachable(path: string, uid: number, gid: number): Promise<boolean> {
  const parent = dirname(path);
  if (parent === path) return true;
  const { mode, uid: owner, gid: group } = await stat(parent);
  const bit = owner === uid ? 0o100 : group === gid ? 0o010 : 0o001;
  return (mode & bit) !== 0 && (await isReachable(parent, uid, gid));
}
