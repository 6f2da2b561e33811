/** The telemetry of a process, from its start on: its registry, and the listener where one is configured. */
import type { Logger } from "pino";
import { type ListenAddress, startMetricsServer } from "./metrics-server.ts";
import { createRegistry, type MetricsRegistry } from "./registry.ts";
import { startTracing, type Tracing, type TracingConfig } from "./tracing.ts";

export interface TelemetryOptions {
  /** `helmr-control`, `helmr-dispatcher`, `helmr-worker`. */
  readonly service: string;
  /** HELMR_METRICS_LISTEN; undefined: no listener. */
  readonly listen: ListenAddress | undefined;
  /** The OTEL_* variables. */
  readonly tracing: TracingConfig;
  readonly logger: Logger;
}

type Ready = () => Promise<boolean> | boolean;

export interface Telemetry {
  readonly registry: MetricsRegistry;
  readonly tracing: Tracing;
  /** What `/readyz` says from now on; not ready before the first call. */
  setReady(ready: Ready): void;
  /** Ends the listener, and sends the spans that are left. */
  close(): Promise<void>;
}

/** @throws when the address cannot be listened on. */
export async function startTelemetry({
  service,
  listen,
  tracing: config,
  logger,
}: TelemetryOptions): Promise<Telemetry> {
  const registry = createRegistry(service);
  let isReady: Ready = () => false;
  const server = listen && (await startMetricsServer({ listen, registry, ready: () => isReady(), logger }));
  if (server !== undefined) logger.info({ url: server.url }, "metrics are served");
  const tracing = await startTracing(service, config, logger);
  if (tracing.isOn) logger.info("traces are sent");
  return {
    registry,
    tracing,
    setReady: (ready) => {
      isReady = ready;
    },
    close: async () => {
      await Promise.all([server?.close(), tracing.close()]);
    },
  };
}
