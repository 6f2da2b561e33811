/** Users of the guest's image, resolved from its own /etc/passwd and /etc/group as `docker run --user` does. */
import { readFileSync } from "node:fs";

export interface GuestUser {
  readonly uid: number;
  readonly gid: number;
  readonly name: string | undefined;
  readonly home: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** Resolve `name`, `uid`, `name:group`, `uid:gid`. Throws an Error that says which part the image does not know. */
export function resolveUser(spec: string, etc = "/etc"): GuestUser {
  const [userPart = "", groupPart] = spec.split(":", 2);
  const entry = findUser(userPart, etc);
  const numeric = wholeNumber(userPart);
  if (entry === undefined && numeric === undefined) {
    throw new Error(
      `The image has no user "${userPart}" in /etc/passwd; create it in a run step or use a number.`,
    );
  }
  const gid = groupPart === undefined ? (entry?.gid ?? 0) : resolveGroup(groupPart, etc);
  return { uid: entry?.uid ?? numeric ?? 0, gid, name: entry?.name, home: entry?.home ?? "/" };
}

/** The shell that /etc/passwd gives the user; undefined when it gives none. */
export function loginShell(uid: number, etc = "/etc"): string | undefined {
  const shell = findUser(String(uid), etc)?.shell;
  return shell === "" ? undefined : shell;
}

function findUser(user: string, etc: string): PasswdEntry | undefined {
  const entries = lines(`${etc}/passwd`).map(
    ([name = "", , uid = "", gid = "", , home = "", shell = ""]): PasswdEntry => ({
      name,
      uid: Number(uid),
      gid: Number(gid),
      home: home === "" ? "/" : home,
      shell,
    }),
  );
  const numeric = wholeNumber(user);
  return entries.find((entry) => entry.name === user) ?? entries.find((entry) => entry.uid === numeric);
}

function resolveGroup(group: string, etc: string): number {
  const found = lines(`${etc}/group`).find(([name]) => name === group);
  const gid = wholeNumber(found?.[2] ?? group);
  if (gid === undefined) throw new Error(`The image has no group "${group}" in /etc/group.`);
  return gid;
}

function lines(path: string): string[][] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    // An image without the file (FROM scratch and node alone): numbers still work.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

function wholeNumber(text: string): number | undefined {
  return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
