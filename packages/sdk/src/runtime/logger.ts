/** `logger`: log entries of a run (contract 13.7): info to stdout, warn and error to stderr. */
import { requireRun } from "./bridge-access.ts";
import { formatEntry } from "./format.ts";

/** Values are rendered as `console.log` does; an entry over 64 KiB is cut with a marker. Throws outside a run. */
export const logger = Object.freeze({
  info(...values: unknown[]): void {
    requireRun("logger.info").log("info", formatEntry(values));
  },
  warn(...values: unknown[]): void {
    requireRun("logger.warn").log("warn", formatEntry(values));
  },
  error(...values: unknown[]): void {
    requireRun("logger.error").log("error", formatEntry(values));
  },
});
