/** The user an image or a step names, looked up in the image's own /etc/passwd and /etc/group (read as data). */
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { GuestSpec } from "@helmr/isolation";
import { resolveInRoot } from "./resolve-in-root.ts";

export interface ImageUser {
  readonly ids: GuestSpec["user"];
  readonly home: string;
}

const maxFileBytes = 1024 * 1024;

/**
 * `name`, `uid`, `name:group` or `uid:gid`; "" is root. Throws an Error that names the unknown user or group.
 */
export async function resolveImageUser(root: string, user: string): Promise<ImageUser> {
  const [name = "", group] = (user === "" ? "0" : user).split(":");
  const [passwd, groups] = await Promise.all([readTable(root, "/etc/passwd"), readTable(root, "/etc/group")]);
  const entry = passwd.find((fields) => fields[0] === name) ?? passwd.find((fields) => fields[2] === name);
  if (entry === undefined && !/^\d+$/.test(name))
    throw new Error(`user ${JSON.stringify(name)} is not in the image's /etc/passwd`);
  const uid = toId(entry?.[2] ?? name);
  const gid = group === undefined ? toId(entry?.[3] ?? "0") : groupId(groups, group);
  const account = entry?.[0];
  const additionalGids =
    account === undefined || group !== undefined
      ? []
      : groups
          .filter((fields) => (fields[3] ?? "").split(",").includes(account))
          .map((fields) => toId(fields[2] ?? "0"));
  return {
    ids: { uid, gid, additionalGids: additionalGids.filter((id) => id !== gid) },
    home: entry?.[5] || "/",
  };
}

function groupId(groups: readonly string[][], group: string): number {
  const entry = groups.find((fields) => fields[0] === group);
  if (entry === undefined && !/^\d+$/.test(group))
    throw new Error(`group ${JSON.stringify(group)} is not in the image's /etc/group`);
  return toId(entry?.[2] ?? group);
}

function toId(text: string): number {
  const id = Number(text);
  if (!Number.isInteger(id) || id < 0 || id > 0xffff_fffe)
    throw new Error(`${JSON.stringify(text)} is no user or group id`);
  return id;
}

async function readTable(root: string, path: string): Promise<string[][]> {
  const text = await readSmallFile(await resolveInRoot(root, path), maxFileBytes);
  return (text ?? "").split("\n").map((line) => line.split(":"));
}

/** The start of a regular file, or undefined where there is none. */
export async function readSmallFile(path: string, maxBytes: number): Promise<string | undefined> {
  // Without waiting: opening a named pipe would wait for a writer that never comes.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
      throw error;
    },
  );
  if (file === undefined) return undefined;
  try {
    if (!(await file.stat()).isFile()) return undefined;
    const buffer = Buffer.alloc(maxBytes);
    const { bytesRead } = await file.read(buffer, 0, maxBytes, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Whether the image has /bin/sh, which reaps the orphans of a task. */
export async function imageHasShell(root: string): Promise<boolean> {
  return stat(await resolveInRoot(root, "/bin/sh")).then(
    (info) => info.isFile() && (info.mode & 0o111) !== 0,
    () => false,
  );
}
