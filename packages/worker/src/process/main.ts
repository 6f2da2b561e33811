/** The process of `helmr-worker`: one command line. */
import { failOnStart } from "@helmr/process";
import { Command } from "commander";

const { env } = process;
const dataDir = ["--data-dir <path>", "the worker's data folder; default: HELMR_WORKER_DATA_DIR"] as const;

const program = new Command("helmr-worker")
  .description("A worker of Helmr: leases runs and builds and executes them in guests. Needs root.")
  .addHelpText(
    "after",
    "\nConfiguration is environment variables, HELMR_CONTROL_PLANE_URL and others: docs/configuration.md lists them.",
  );

program
  .command("serve", { isDefault: true })
  .description("work until SIGINT or SIGTERM, or until drained")
  .action(() => failOnStart("helmr-worker", async () => (await import("./serve.ts")).serve(env)));

program
  .command("drain")
  .description(
    "let the worker on this machine finish or park what runs, take nothing new, and end; exit code 3 when something was given back",
  )
  .option("--timeout <duration>", "what still runs after that is given back and goes on elsewhere", "10m")
  .option(...dataDir)
  .action((options: { timeout?: string; dataDir?: string }) =>
    failOnStart("helmr-worker", async () => (await import("./commands.ts")).drainWorker(env, options)),
  );

program
  .command("status")
  .description("what the worker on this machine does, and has room for")
  .option("--json", "as JSON")
  .option(...dataDir)
  .action((options: { json?: boolean; dataDir?: string }) =>
    failOnStart("helmr-worker", async () => (await import("./commands.ts")).showStatus(env, options)),
  );

await program.parseAsync();
