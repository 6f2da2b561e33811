import { context, propagation, type TextMapPropagator } from "@opentelemetry/api";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { traceHeaders } from "./trace-parent.ts";

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const other = traceparent.replace("00f0", "11f0");
const propagator = (inject: TextMapPropagator["inject"]): TextMapPropagator => ({
  inject,
  extract: (active) => active,
  fields: () => ["traceparent"],
});

beforeEach(() => vi.stubEnv("TRACEPARENT", undefined));
afterEach(() => {
  propagation.disable();
  vi.unstubAllEnvs();
});

it("says nothing where nothing is traced", () => {
  expect(traceHeaders()).toEqual({});
});

it("takes the trace of the program's own OpenTelemetry before that of its environment", () => {
  vi.stubEnv("TRACEPARENT", other);
  expect(traceHeaders()).toEqual({ traceparent: other });
  propagation.setGlobalPropagator(
    propagator((active, carrier, setter) => {
      expect(active ?? context.active()).toBe(context.active());
      setter.set(carrier, "traceparent", traceparent);
      setter.set(carrier, "baggage", "secret=1");
    }),
  );
  expect(traceHeaders()).toEqual({ traceparent });
});

it("sends nothing that is no traceparent, and never fails", () => {
  vi.stubEnv("TRACEPARENT", "x\r\nAuthorization: y");
  expect(traceHeaders()).toEqual({});
  propagation.setGlobalPropagator(
    propagator(() => {
      throw new Error("broken");
    }),
  );
  expect(traceHeaders()).toEqual({});
});
