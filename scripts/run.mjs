#!/usr/bin/env node
import { spawn } from "node:child_process";
// Runs a TypeScript file of this repository: `node scripts/run.mjs <file.ts> [args]`. Every npm script goes through here.
//
// Plain JavaScript for Node 18 and newer, because it has to work before anything is installed. In this order:
//   1. own Node older than 24 -> fetch the pinned npm package of Node 24 into the user's cache and start again under it
//   2. dependencies missing or behind package-lock.json -> `npm ci`
//   3. import the file in this process, so that signals and the exit code need no relay
// Steps 1 and 2 hold a kernel lock (flock), so that invocations at the same time wait for each other.
import { constants } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { BootstrapError } from "./lib/bootstrap.mjs";
import { ensureDependencies } from "./lib/dependencies.mjs";
import { ensureNode, REQUIRED_MAJOR } from "./lib/node.mjs";

/** Run this script again under `node`; passes signals on and ends the way the child ended. */
function restartUnder(node, args) {
  const child = spawn(node, [process.argv[1], ...args], {
    stdio: "inherit",
    env: { ...process.env, HELMR_NODE_RESTARTED: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the whole process group: the child has it already.
      if (signal === "SIGINT" && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.on("error", (error) => fail(new BootstrapError(`cannot start ${node}: ${error.message}`)));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
}

function fail(error) {
  const known = error instanceof BootstrapError;
  console.error(known ? `helmr: ${error.message}` : error);
  process.exit(1);
}

async function main() {
  const [file, ...args] = process.argv.slice(2);
  if (file === undefined) throw new BootstrapError("usage: node scripts/run.mjs <file.ts> [arguments]");
  if (Number(process.versions.node.split(".")[0]) < REQUIRED_MAJOR) {
    if (process.env.HELMR_NODE_RESTARTED) {
      throw new BootstrapError(
        `the fetched Node is ${process.version}; install Node ${REQUIRED_MAJOR} and try again`,
      );
    }
    return restartUnder(await ensureNode(), [file, ...args]);
  }
  delete process.env.HELMR_NODE_RESTARTED;
  await ensureDependencies();
  const target = resolve(file);
  process.argv = [process.execPath, target, ...args];
  await import(pathToFileURL(target).href);
}

main().catch(fail);
