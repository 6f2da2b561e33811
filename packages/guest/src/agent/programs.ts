/** Which program a command or terminal starts, and what is said when it does not. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, resolve } from "node:path";
import { SpawnError, type SpawnRequest } from "./spawn.ts";
import { type GuestUser, loginShell } from "./users.ts";

/** Shells that end at once. */
const noShell = /\/(nologin|false|true|sync)$/;

/** The login shell of the user (absent: root), else /bin/bash, else /bin/sh; undefined when the image has none. */
export function shellOf(user: GuestUser | undefined): string | undefined {
  const own = loginShell(user?.uid ?? 0);
  const candidates = [...(own === undefined || noShell.test(own) ? [] : [own]), "/bin/bash", "/bin/sh"];
  return candidates.find((file) => isFile(file) && isExecutable(file));
}

/** The file that `command` names, looked up in PATH as `execvp` does; what cannot be found fails when it is started. */
export function programFile(command: string, path: string, cwd: string): string {
  if (command.includes("/")) return resolve(cwd, command);
  const found = path
    .split(delimiter)
    .map((folder) => resolve(cwd, folder, command))
    .filter(isFile);
  // As execvp: one that may be executed, else the reason why the first may not.
  return found.find(isExecutable) ?? found[0] ?? resolve(cwd, command, "not-found");
}

/** Why a program did not start, for an operator. */
export function startText(
  error: Error,
  { argv: [command = ""], cwd, user }: Pick<SpawnRequest, "argv" | "cwd" | "user">,
): string {
  if (!(error instanceof SpawnError)) return error.message;
  const { step, code } = error;
  const who = user === undefined ? "root" : (user.name ?? `user ${user.uid}`);
  if (step === "folder") {
    return code === "EACCES"
      ? `EACCES: ${who} may not enter ${cwd}.`
      : `${code}: the guest has no folder ${cwd}.`;
  }
  if (step !== "program") return `${code}: the ${step} of "${command}" could not be set up.`;
  switch (code) {
    case "EACCES":
      return `EACCES: ${who} may not execute "${command}".`;
    case "ENOEXEC":
      return `ENOEXEC: "${command}" is no program of this guest; a script needs a first line like #!/bin/sh.`;
    case "E2BIG":
      return `E2BIG: the arguments and the environment of "${command}" are too long.`;
    case "ENOENT":
    case "ENOTDIR":
      return `ENOENT: the guest has no command "${command}", or not its interpreter.`;
    default:
      return `${code}: "${command}" could not be executed.`;
  }
}

function isFile(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
