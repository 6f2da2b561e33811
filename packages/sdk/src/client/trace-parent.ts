/**
 * The trace that a start belongs to: of the program's own OpenTelemetry where one is registered, else what the environment
 * says (TRACEPARENT: inside a run of Helmr it is the task's). Nothing is imported for it: the API of OpenTelemetry registers
 * itself under a symbol that all its copies share.
 */
import { environmentVariable } from "./environment.ts";

interface RegisteredApi {
  readonly context?: { active(): unknown };
  readonly propagation?: {
    inject(
      context: unknown,
      carrier: Record<string, string>,
      setter: { set(carrier: Record<string, string>, key: string, value: string): void },
    ): void;
  };
}

const registeredAs = Symbol.for("opentelemetry.js.api.1");
const form = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** `traceparent`, or nothing. Never throws: tracing must not fail what it traces. */
export function traceHeaders(): Record<string, string> {
  const traceparent = activeTraceparent() ?? environmentVariable("TRACEPARENT");
  return traceparent !== undefined && form.test(traceparent) ? { traceparent } : {};
}

function activeTraceparent(): string | undefined {
  try {
    const api = (globalThis as { [registeredAs]?: RegisteredApi })[registeredAs];
    const carrier: Record<string, string> = {};
    api?.propagation?.inject(api.context?.active(), carrier, {
      set: (into, key, value) => {
        into[key] = value;
      },
    });
    return carrier.traceparent;
  } catch {
    return undefined;
  }
}
