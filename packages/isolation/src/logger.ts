/** The part of pino's interface this package uses, so that callers can pass a pino child or nothing. */
export interface IsolationLogger {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

const ignore = () => undefined;

export const silentLogger: IsolationLogger = { debug: ignore, info: ignore, warn: ignore };
