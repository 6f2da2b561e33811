/** The variables of OpenTelemetry that every process knows: one collector for all of an installation. */
import { z } from "zod";
import { urlOf } from "./variables.ts";

const collector = urlOf(["https:", "http:"], "http://host:4318");

export const tracingVariables = {
  OTEL_EXPORTER_OTLP_ENDPOINT: collector
    .optional()
    .describe("OTLP/HTTP collector, without /v1/traces: traces are sent there; without one there are none"),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: collector
    .optional()
    .describe("the whole URL for traces, where it is another"),
  OTEL_EXPORTER_OTLP_HEADERS: z.string().optional().describe("name=value,… that the collector wants"),
  OTEL_SDK_DISABLED: z
    .enum(["true", "false"], { error: "must be true or false" })
    .transform((text) => text === "true")
    .optional()
    .describe("true: no traces all the same"),
  OTEL_TRACES_SAMPLER: z
    .enum(
      [
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
      ],
      { error: "must be always_on, always_off, traceidratio, or one of them after parentbased_" },
    )
    .default("parentbased_always_on")
    .describe("which traces are kept; equal in all processes"),
  OTEL_TRACES_SAMPLER_ARG: z.coerce
    .number({ error: "must be a number from 0 to 1" })
    .min(0, "must be a number from 0 to 1")
    .max(1, "must be a number from 0 to 1")
    .default(1)
    .describe("the share of them, for traceidratio"),
  OTEL_BSP_SCHEDULE_DELAY: z.coerce
    .number({ error: "must be milliseconds" })
    .int("must be whole milliseconds")
    .min(1, "must be 1 or more")
    .max(60_000, "must be 60000 or less")
    .default(5_000)
    .describe("spans are sent together, so many milliseconds apart"),
  OTEL_RESOURCE_ATTRIBUTES: z
    .string()
    .optional()
    .describe("name=value,… of every span: `deployment.environment.name=prod`"),
  OTEL_SERVICE_NAME: z.string().optional().describe("instead of the program's name"),
} as const;
