/** @helmr/telemetry: what the processes of an installation measure and tell. */
export { type ControlMetrics, createControlMetrics } from "./control-metrics.ts";
export { watchDatabase } from "./database-metrics.ts";
export { secondsSince } from "./define.ts";
export { createDispatcherMetrics, type DispatcherMetrics } from "./dispatcher-metrics.ts";
export { type MetricsRegistry, unreadRegistry } from "./registry.ts";
export { startTelemetry, type Telemetry } from "./start.ts";
export {
  leaseTrace,
  normalTraceparent,
  runTrace,
  type TraceContext,
  traceparentOf,
} from "./trace-context.ts";
export {
  noTracing,
  type Span,
  type SpanAttributes,
  type SpanOptions,
  type Tracing,
  type TracingConfig,
  tracingConfig,
} from "./tracing.ts";
export { watchWork } from "./work-metrics.ts";
export { createWorkerMetrics, type WorkerMetrics } from "./worker-metrics.ts";
