/**
 * Traces by OpenTelemetry, sent over OTLP/HTTP. Where no collector is configured nothing of it is loaded, and a span is an object
 * that hands its parent on, so that the trace of a caller reaches the guest all the same.
 *
 * Parents are passed explicitly, as traceparents: a run's spans are made by several processes, days apart.
 */
import type { Logger } from "pino";

export interface SpanOptions {
  /** A traceparent; without one the span begins a trace. */
  readonly parent?: string | undefined;
  readonly kind?: "internal" | "server" | "client" | "producer" | "consumer";
  readonly attributes?: SpanAttributes;
  readonly startedAt?: Date;
  /** Instead of a random one: see `spanIdOf`. */
  readonly spanId?: string;
  /** Traceparents of spans that led to this one and are not its parents. */
  readonly links?: readonly string[];
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Span {
  /** What children name as their parent; without tracing, the parent's own. */
  readonly traceparent: string | undefined;
  set(attributes: SpanAttributes): void;
  /** What went wrong, in words without secrets. */
  fail(message: string): void;
  /** Ends it, once; what comes later is left out. */
  end(at?: Date): void;
}

export interface Tracing {
  readonly isOn: boolean;
  start(name: string, options?: SpanOptions): Span;
  /** Sends what is left, for some seconds at most. */
  close(): Promise<void>;
}

export interface TracingConfig {
  readonly OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined;
  readonly OTEL_EXPORTER_OTLP_TRACES_ENDPOINT?: string | undefined;
  readonly OTEL_SDK_DISABLED?: boolean | undefined;
  readonly OTEL_TRACES_SAMPLER: TraceSampler;
  readonly OTEL_TRACES_SAMPLER_ARG: number;
  readonly OTEL_BSP_SCHEDULE_DELAY: number;
}

/** Of a process's variables those of tracing alone: the others are secrets among them. */
export function tracingConfig(values: TracingConfig): TracingConfig {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: values.OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: values.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_SDK_DISABLED: values.OTEL_SDK_DISABLED,
    OTEL_TRACES_SAMPLER: values.OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG: values.OTEL_TRACES_SAMPLER_ARG,
    OTEL_BSP_SCHEDULE_DELAY: values.OTEL_BSP_SCHEDULE_DELAY,
  };
}

export type TraceSampler =
  | "always_on"
  | "always_off"
  | "traceidratio"
  | "parentbased_always_on"
  | "parentbased_always_off"
  | "parentbased_traceidratio";

class PassedOn implements Span {
  readonly traceparent: string | undefined;

  constructor(traceparent: string | undefined) {
    this.traceparent = traceparent;
  }

  set(): void {}
  fail(): void {}
  end(): void {}
}

/** For processes and parts without a collector. */
export const noTracing: Tracing = {
  isOn: false,
  start: (_name, options) => new PassedOn(options?.parent),
  close: async () => undefined,
};

/** By the standard OTEL_* variables; the exporter reads those of its own (headers, timeout, certificates) itself. */
export async function startTracing(service: string, config: TracingConfig, logger: Logger): Promise<Tracing> {
  const endpoint = config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? config.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (endpoint === undefined || config.OTEL_SDK_DISABLED === true) return noTracing;
  const { startOtlpTracing } = await import("./otlp-tracing.ts");
  return startOtlpTracing(service, config, logger);
}
