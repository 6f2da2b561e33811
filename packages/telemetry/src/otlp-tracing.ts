/** Traces through the OpenTelemetry SDK: loaded only where a collector is configured. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Attributes,
  type Context,
  DiagLogLevel,
  diag,
  type Link,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  type IdGenerator,
  ParentBasedSampler,
  RandomIdGenerator,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Logger } from "pino";
import { helmrVersion } from "./registry.ts";
import { parseTraceparent, traceparentOf } from "./trace-context.ts";
import type { Span, SpanAttributes, SpanOptions, TraceSampler, Tracing, TracingConfig } from "./tracing.ts";

const flushLimitMs = 3_000;
const kinds = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

export function startOtlpTracing(service: string, config: TracingConfig, logger: Logger): Tracing {
  // Of the SDK's words only what an operator can act on: that spans do not arrive.
  const say = (message: string) => logger.warn({ part: "tracing", reason: message }, "traces are not sent");
  const nothing = () => undefined;
  diag.setLogger(
    { error: say, warn: say, info: nothing, debug: nothing, verbose: nothing },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const ids = new ChosenIds();
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ "service.name": service, "service.version": helmrVersion }))
      .merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(config.OTEL_TRACES_SAMPLER, config.OTEL_TRACES_SAMPLER_ARG),
    idGenerator: ids,
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter(),
        scheduledDelayMillis: config.OTEL_BSP_SCHEDULE_DELAY,
      }),
    ],
  });
  const tracer = provider.getTracer("helmr", helmrVersion);
  let closed: Promise<void> | undefined;
  return {
    isOn: true,
    start: (name, options = {}) => {
      const { kind = "internal", attributes, startedAt, links = [] } = options;
      ids.next = options.spanId;
      return new OtlpSpan(
        tracer.startSpan(
          name,
          {
            kind: kinds[kind],
            ...(attributes && { attributes: attributesOf(attributes) }),
            ...(startedAt && { startTime: startedAt }),
            links: links.flatMap(linkOf),
          },
          contextOf(options),
        ),
      );
    },
    close: () => {
      closed ??= Promise.race([
        provider.shutdown().catch((error: unknown) => say(String(error))),
        sleep(flushLimitMs, undefined, { ref: false }),
      ]);
      return closed;
    },
  };
}

/** Random ids, but for a span whose id is given: the SDK asks for one while `startSpan` runs. */
class ChosenIds implements IdGenerator {
  readonly #random = new RandomIdGenerator();
  next: string | undefined;

  generateTraceId(): string {
    return this.#random.generateTraceId();
  }

  generateSpanId(): string {
    const id = this.next ?? this.#random.generateSpanId();
    this.next = undefined;
    return id;
  }
}

class OtlpSpan implements Span {
  readonly traceparent: string;
  readonly #span: OtelSpan;

  constructor(span: OtelSpan) {
    this.#span = span;
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.traceparent = traceparentOf({ traceId, spanId, flags: traceFlags });
  }

  set(attributes: SpanAttributes): void {
    if (this.#span.isRecording()) this.#span.setAttributes(attributesOf(attributes));
  }

  fail(message: string): void {
    if (!this.#span.isRecording()) return;
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: message.slice(0, 1000) });
  }

  end(at?: Date): void {
    if (this.#span.isRecording()) this.#span.end(at);
  }
}

function attributesOf(attributes: SpanAttributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

function contextOf({ parent }: SpanOptions): Context {
  const context = remoteContext(parent);
  return context === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, context);
}

function linkOf(traceparent: string): Link[] {
  const context = remoteContext(traceparent);
  return context === undefined ? [] : [{ context }];
}

function remoteContext(traceparent: string | undefined) {
  const parsed = parseTraceparent(traceparent);
  return (
    parsed && { traceId: parsed.traceId, spanId: parsed.spanId, traceFlags: parsed.flags, isRemote: true }
  );
}

function samplerOf(name: TraceSampler, ratio: number): Sampler {
  const parentBased = "parentbased_";
  if (name.startsWith(parentBased))
    return new ParentBasedSampler({ root: rootSampler(name.slice(parentBased.length), ratio) });
  return rootSampler(name, ratio);
}

function rootSampler(name: string, ratio: number): Sampler {
  if (name === "always_off") return new AlwaysOffSampler();
  return name === "traceidratio" ? new TraceIdRatioBasedSampler(ratio) : new AlwaysOnSampler();
}
