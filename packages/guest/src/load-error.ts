/**
 * Position of a syntax error. V8 keeps file, line and caret of a module's syntax error to itself (they are printed for
 * uncaught errors only), so the files loaded last are checked again with `node --check`. Only on the failing path.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { recentlyLoadedFiles } from "./task-host/module-hooks.ts";

const maxFilesChecked = 10;
const checkTimeoutMs = 5_000;

/** Put the position before the stack of a SyntaxError that does not show one. Other values are left as they are. */
export function locateSyntaxError(error: unknown): void {
  if (!(error instanceof SyntaxError) || typeof error.stack !== "string") return;
  if (/^(file:|\/)/.test(error.stack)) return;
  for (const url of recentlyLoadedFiles().slice(0, maxFilesChecked)) {
    const checked = spawnSync(process.execPath, ["--check", fileURLToPath(url)], {
      timeout: checkTimeoutMs,
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe"],
    });
    const position = /^(?:file:|\/)[^\n]*:\d+\n[\s\S]*?\n(?=SyntaxError)/.exec(checked.stderr);
    if (checked.status !== 0 && position !== null) {
      error.stack = position[0] + error.stack;
      return;
    }
  }
}
