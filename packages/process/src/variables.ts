/** Schemas of variables that more than one process has. */
import { parseDurationMs } from "@helmr/api";
import { z } from "zod";

/** A URL with one of these protocols (`https:`). */
export const urlOf = (protocols: readonly string[], looks: string) =>
  z.string().refine((text) => protocols.includes(URL.parse(text)?.protocol ?? ""), {
    error: `must look like ${looks}`,
  });

/** 32 bytes of text or more. */
export const tokenOf = (bytes: number) =>
  z
    .string()
    .min(bytes * 2, `must have ${bytes * 2} characters at least; make one with: openssl rand -hex ${bytes}`);

export const postgresUrl = urlOf(
  ["postgres:", "postgresql:"],
  "postgres://user:password@host:5432/helmr",
).describe("PostgreSQL 15 or newer");

/** An address to listen on; `toAddress` takes it apart. */
export const hostPort = z
  .string()
  .regex(
    /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/,
    "must be host:port, like 0.0.0.0:4747 or [::]:4747",
  )
  .refine((text) => Number(text.slice(text.lastIndexOf(":") + 1)) < 65_536, {
    error: "must have a port up to 65535",
  });

export function toAddress(text: string): { readonly host: string; readonly port: number } {
  const at = text.lastIndexOf(":");
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(text.slice(at + 1)) };
}

/** Of every process. */
export const metricsListen = hostPort
  .transform(toAddress)
  .optional()
  .describe(
    "host:port of /metrics (Prometheus), /healthz and /readyz, for an address that only the monitoring reaches; without it they are not served",
  );

/** Redis or Valkey. */
export const redisUrl = urlOf(["redis:", "rediss:", "unix:"], "redis://host:6379");

/** `30s`, `5m`; to milliseconds. `0s` is none where `min` allows it. */
export const duration = (byDefault: string, min: "0s" | "1ms" = "1ms") =>
  z
    .string()
    .default(byDefault)
    .transform((text, context) => {
      const ms = min === "0s" && /^0(?:ms|s)?$/.test(text) ? 0 : parseDurationMs(text);
      // The longest timer there is.
      if (ms !== undefined && ms < 2 ** 31) return ms;
      context.addIssue({
        code: "custom",
        message: "must be a duration like 500ms, 30s or 5m, below 24 days",
      });
      return z.NEVER;
    });

/** `30m`, `720h`, `7d`; to milliseconds. Of any length: no timer runs for it. */
export const keepFor = (byDefault: string) =>
  z
    .string()
    .default(byDefault)
    .transform((text, context) => {
      const ms = parseDurationMs(text);
      if (ms !== undefined) return ms;
      context.addIssue({ code: "custom", message: "must be a duration like 30m, 720h or 7d" });
      return z.NEVER;
    });

/** A whole number within bounds. */
export const count = (byDefault: number, max: number) =>
  z
    .string()
    .default(String(byDefault))
    .refine((text) => /^[1-9]\d{0,8}$/.test(text) && Number(text) <= max, {
      error: `must be a whole number from 1 to ${max}`,
    })
    .transform(Number);

/** Of control planes and dispatchers alike. */
export const scheduleJitter = duration("30s", "0s").describe(
  "fires of schedules are spread over this long after their time, each always by the same; equal in control plane and dispatcher",
);

/** Of control planes and dispatchers alike. */
export const workspaceIdleStop = duration("10m").describe(
  "a live copy of a workspace that no command or terminal has used for so long is saved and stopped; equal in control plane and dispatcher",
);
export const workspaceLostAfter = duration("5m").describe(
  "a live copy of a workspace whose worker is silent for so long is lost; equal in control plane and dispatcher",
);
