/** The telemetry of a process, from its start on: its registry, and the listener where one is configured. */
import type { Logger } from "pino";
import { type ListenAddress, startMetricsServer } from "./metrics-server.ts";
import { createRegistry, type MetricsRegistry } from "./registry.ts";

export interface TelemetryOptions {
  /** `helmr-control`, `helmr-dispatcher`, `helmr-worker`. */
  readonly service: string;
  /** HELMR_METRICS_LISTEN; undefined: no listener. */
  readonly listen: ListenAddress | undefined;
  readonly logger: Logger;
}

type Ready = () => Promise<boolean> | boolean;

export interface Telemetry {
  readonly registry: MetricsRegistry;
  /** What `/readyz` says from now on; not ready before the first call. */
  setReady(ready: Ready): void;
  close(): Promise<void>;
}

/** @throws when the address cannot be listened on. */
export async function startTelemetry({ service, listen, logger }: TelemetryOptions): Promise<Telemetry> {
  const registry = createRegistry(service);
  let isReady: Ready = () => false;
  const server = listen && (await startMetricsServer({ listen, registry, ready: () => isReady(), logger }));
  if (server !== undefined) logger.info({ url: server.url }, "metrics are served");
  return {
    registry,
    setReady: (ready) => {
      isReady = ready;
    },
    close: async () => await server?.close(),
  };
}
