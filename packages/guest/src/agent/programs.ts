/** Which program a terminal starts: looked up before the fork, so that what is missing can be said. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, resolve } from "node:path";
import { type GuestUser, loginShell } from "./users.ts";

/** Shells that end at once. */
const noShell = /\/(nologin|false|true|sync)$/;

/** The login shell of the user (absent: root), else /bin/bash, else /bin/sh; undefined when the image has none. */
export function shellOf(user: GuestUser | undefined): string | undefined {
  const own = loginShell(user?.uid ?? 0);
  const candidates = [...(own === undefined || noShell.test(own) ? [] : [own]), "/bin/bash", "/bin/sh"];
  return candidates.find(isExecutable);
}

/** The file that `command` names, as `execvp` finds it. Throws an Error when there is none. */
export function executableOf(command: string, path: string, cwd: string): string {
  if (command.includes("/")) {
    const file = isAbsolute(command) ? command : resolve(cwd, command);
    if (isExecutable(file)) return file;
  }
  for (const folder of command.includes("/") ? [] : path.split(delimiter)) {
    const file = resolve(cwd, folder, command);
    if (isExecutable(file)) return file;
  }
  throw new Error(`ENOENT: the guest has no command "${command}".`);
}

/** Throws an Error when there is no such folder. */
export function requireFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  throw new Error(`ENOENT: the guest has no folder ${path}.`);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
