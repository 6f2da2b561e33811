/** The connection to Redis or Valkey, as its adapters take it. */
import type { Logger } from "pino";

/** Undefined without a URL. What comes and goes is in the log once each. */
export function redisOptions(url: string | undefined, logger: Logger) {
  if (url === undefined) return undefined;
  return {
    url,
    onProblem: (reason: string) => logger.warn({ reason }, "Redis does not answer: hints are late"),
    onRecovered: () => logger.info("Redis answers again"),
  };
}
