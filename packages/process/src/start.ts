/** How every process begins: its log, and what it says when it cannot start. */
import { type Logger, pino } from "pino";
import { z } from "zod";
import { ConfigError } from "./config.ts";
import { disableCoreDumps } from "./core-dumps.ts";
import { logFormatters } from "./log-names.ts";

export const logLevel = z
  .enum(["trace", "debug", "info", "warn", "error", "fatal"], {
    error: "must be trace, debug, info, warn, error or fatal",
  })
  .default("info")
  .describe("what is logged, as JSON lines on stdout");

/** A logger on stdout, and no core files from here on. */
export async function startLogger(level: string): Promise<Logger> {
  const logger = pino({ level, timestamp: pino.stdTimeFunctions.isoTime, formatters: logFormatters });
  if (!(await disableCoreDumps())) {
    logger.warn("core files are not turned off: install util-linux, or start with `ulimit -c 0`");
  }
  return logger;
}

/** Run the process; what it throws is said on stderr. Exit code 2 for a wrong configuration, else 1. */
export async function failOnStart(program: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    process.stderr.write(`${program}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof ConfigError ? 2 : 1;
  }
}
