/** @helmr/telemetry: what the processes of an installation measure and tell. */
export { type MetricsRegistry, unreadRegistry } from "./registry.ts";
export { startTelemetry, type Telemetry } from "./start.ts";
