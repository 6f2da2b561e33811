/**
 * `helmr dev`: the embedded stack in the foreground.
 *
 *   state      signal 1                       signal 2               signal 3
 *   starting   stop as soon as it has started says what it waits for exit 130 or 143 at once
 *   running    stop                           says what it waits for exit 130 or 143 at once
 *
 * Signals within half a second count as one: a terminal's Ctrl-C goes to the whole process group, and npm passes it on
 * to its child once more, so that one key press arrives twice.
 *
 * What an ended process leaves behind is cleaned up by the next start, so that the third signal may be that short.
 */
import { resolve as resolvePath } from "node:path";
import { type Command, Option } from "commander";
import { declare } from "../command.ts";
import { credentialsPath, saveHost } from "../credentials.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, paint, surviveWithoutReader, writeJsonLine } from "../output.ts";
import { integer } from "../values.ts";

interface DevOptions {
  readonly dataDir?: string;
  readonly port?: number;
  readonly reset?: boolean;
  readonly json?: boolean;
  readonly logLevel: string;
}

export function register(program: Command): void {
  declare(program, "dev", "Run a complete server on this machine: database, API, dispatcher and a worker", [
    "helmr dev",
    "helmr dev --data-dir ./.helmr-data --port 4747",
    "helmr dev --json",
  ])
    .option("--data-dir <dir>", "where everything is kept (default: under the user's data directory)")
    .option("--port <port>", "port of the API (default: the last one, else a free one)", integer(1, 65_535))
    .option("--reset", "remove everything kept so far first")
    .option("--json", "when ready, print one line {url, api_key, project, environment} on stdout")
    .addOption(
      new Option("--log-level <level>", "what the parts log, on stderr as JSON lines")
        .choices(["debug", "info", "warn", "error"])
        .default("warn"),
    )
    .action(dev);
}

const sameRequestMs = 500;
const stopSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Counts the signals that ask for the end; `stopping` resolves at the first. */
function listenForStop(): { stopping: Promise<void>; phase: (text: string) => void; close: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let waitsFor = "the stack to finish starting";
  let count = 0;
  let lastAtMs = Number.NEGATIVE_INFINITY;
  const onSignal = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now();
    if (nowMs - lastAtMs < sameRequestMs) return;
    lastAtMs = nowMs;
    count += 1;
    if (count === 1) {
      note("stopping");
      resolve();
    } else if (count === 2) {
      note(`still waiting for ${waitsFor}; once more ends it at once`);
    } else {
      process.exit(signal === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated);
    }
  };
  for (const name of stopSignals) process.on(name, onSignal);
  return {
    stopping: promise,
    phase: (text) => {
      waitsFor = text;
    },
    close: () => {
      for (const name of stopSignals) process.off(name, onSignal);
    },
  };
}

async function dev(options: DevOptions): Promise<void> {
  // A closed terminal must not leave guests and a database behind: SIGHUP stops the stack, writing to nobody is no error.
  surviveWithoutReader();
  const signals = listenForStop();
  try {
    const [{ startDevStack, StartError }, { pino }] = await Promise.all([
      import("@helmr/dev"),
      import("pino"),
    ]);
    const stack = await startDevStack({
      ...(options.dataDir === undefined ? {} : { dataDir: resolvePath(options.dataDir) }),
      ...(options.port === undefined ? {} : { port: options.port }),
      reset: options.reset ?? false,
      logger: pino({ level: options.logLevel }, process.stderr),
      onProgress: (line) => {
        signals.phase(line);
        note(paint("dim", line, process.stderr));
      },
    }).catch((error: unknown) => {
      throw error instanceof StartError ? new CliError(error.message) : error;
    });
    try {
      const { url, apiKey, sessionToken, project, environment } = stack;
      await saveHost(url, { api_key: apiKey, session_token: sessionToken, project, environment });
      if (options.json) await writeJsonLine({ url, api_key: apiKey, project, environment });
      else showReady(stack);
      signals.phase("runs to end, guests to be removed and the database to stop");
      await signals.stopping;
    } finally {
      await stack.stop();
    }
    note("stopped");
  } finally {
    signals.close();
  }
}

function showReady(stack: { url: string; apiKey: string; project: string; environment: string }): void {
  process.stdout.write(`
${paint("bold", "helmr is ready")}

  url          ${stack.url}
  project      ${stack.project}
  environment  ${stack.environment}
  API key      ${stack.apiKey}

The key, and a session of the owner, are saved in ${credentialsPath()}: other helmr commands find them.
Next: helmr init my-project && helmr deploy my-project
Ctrl-C stops everything.
`);
}
