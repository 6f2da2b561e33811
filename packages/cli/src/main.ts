/** The process of the `helmr` command: run one command line and end with its exit code. */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { cliVersion } from "./version.ts";

const argv = process.argv.slice(2);
// Answered before anything else is loaded: scripts ask for it often.
if (argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V")) {
  process.stdout.write(`${cliVersion}\n`);
} else {
  // Halves the start: help 130 -> 70 ms, the wire schemas 180 -> 60 ms. In the user's own cache folder, since what lies
  // there is run. Never under a folder that is not there: Node makes it, and loops for ever where it cannot be made.
  const cacheHome = process.env.XDG_CACHE_HOME;
  if (existsSync(cacheHome || homedir())) {
    enableCompileCache(join(cacheHome || join(homedir(), ".cache"), "helmr", "compile"));
  }
  const { run } = await import("./program.ts");
  process.exitCode = await run(argv);
}
