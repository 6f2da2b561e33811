/** Shared value rules (contract 1.7): what a task id, a tag, a timestamp or metadata is, everywhere it appears. */
import { z } from "zod";
import { parseDurationMs } from "../duration.ts";
import { canonicalJson, isStorableJson } from "../json.ts";

export const apiVersion = "2026-06-06";

const utf8Bytes = (text: string): number => new TextEncoder().encode(text).length;
/** What PostgreSQL cannot hold, or not as it was sent: half a surrogate pair would become U+FFFD, and two texts one. */
const storable = (text: string): boolean => !text.includes("\0") && text.isWellFormed();
const mustBeStorable = "must not contain NUL or half a surrogate pair";

export const uuid = z.guid({ error: "must be a UUID" }).transform((id) => id.toLowerCase());
export const timestamp = z.iso.datetime({
  offset: true,
  error: "must be an RFC 3339 timestamp like 2026-06-06T12:00:00Z",
});

export const taskId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, {
  error: "must start with a letter or digit, then letters, digits, . _ - (at most 128)",
});
export const queueName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$/, {
  error: "must start with a letter or digit, then letters, digits, . _ / - (at most 256)",
});
export const secretName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, {
  error: "must start with a letter or digit, then letters, digits, _ . - (at most 128)",
});

export const streamName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$/, {
  error: "must start with a letter or digit, then letters, digits, . _ - (at most 256)",
});

export const duration = z.string().refine((text) => parseDurationMs(text) !== undefined, {
  error: "must be a positive duration like 90s, 1.5h, 2h45m or 7d",
});

/** Trimmed, deduplicated, sorted. */
export const tags = z
  .array(
    z
      .string()
      .trim()
      .min(1, "must not be empty")
      .refine(storable, mustBeStorable)
      .refine((tag) => utf8Bytes(tag) <= 128, "must be at most 128 bytes"),
  )
  .transform((list) => [...new Set(list)].sort())
  .refine((list) => list.length <= 10, { error: "at most 10 tags" });

function isJsonObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A JSON object, its keys sorted. Stored as jsonb, which cannot hold U+0000 or half a surrogate pair. */
export const metadata = z
  // Not z.record: it drops the key `__proto__`, which is a key like any other in JSON.
  .custom<Record<string, unknown>>(isJsonObject, { error: "must be a JSON object" })
  .meta({ type: "object", propertyNames: { type: "string" }, additionalProperties: {} })
  .refine(isStorableJson, {
    error:
      "must not contain U+0000, unpaired surrogates, numbers beyond a double's range, or more than 200 levels",
  })
  .transform((value) => JSON.parse(canonicalJson(value)) as Record<string, unknown>);

export const idempotencyKey = z
  .string()
  .trim()
  .min(1, "must not be empty")
  .max(512, "must be at most 512 characters")
  .refine(storable, mustBeStorable);
export const concurrencyKey = z
  .string()
  .max(512, "must be at most 512 characters")
  .refine(storable, mustBeStorable);
export const externalId = z
  .string()
  .trim()
  .refine((text) => utf8Bytes(text) <= 512, { error: "must be at most 512 bytes" })
  .refine(storable, { error: mustBeStorable });
export const maxDurationSeconds = z
  .int()
  .refine((seconds) => seconds === 0 || (seconds >= 5 && seconds <= 86_400), {
    error: "must be from 5 to 86400, or 0 for the task's",
  });

/** Groups the records of a stream. Compared exactly, so it is not trimmed; an empty one is none. */
export const correlationId = z
  .string()
  .max(512, "must be at most 512 characters")
  .refine(storable, mustBeStorable)
  .transform((text) => (text === "" ? undefined : text));

/** Why something is closed or cancelled. */
export const reason = z
  .string()
  .trim()
  .max(2000, "must be at most 2000 characters")
  .refine(storable, mustBeStorable);

const digits = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,16}$/, { error: `must be a number from ${min} to ${max}` })
    .transform(Number)
    .refine((value) => value >= min && value <= max, { error: `must be a number from ${min} to ${max}` });

/** `limit` of a list. */
export const limit = digits(1, 200);
/** `limit` of a list of stream records or tokens. */
export const longLimit = digits(1, 500);
/** The seq after which an event page or stream starts. */
export const cursor = digits(0, Number.MAX_SAFE_INTEGER);
/** `follow=1` asks for a stream. */
export const follow = z
  .enum(["0", "1", "true", "false"])
  .transform((value) => value === "1" || value === "true");

const looksLikeUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);

/** Of an organization, a project or an environment. Never a UUID: paths take either, and one must not shadow the other. */
export const slug = z
  .string()
  .toLowerCase()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, {
    error: "must start with a letter or digit, then letters, digits, - (at most 63)",
  })
  .refine((text) => !looksLikeUuid(text), { error: "must not look like a UUID" });

/** A name is one line of whole characters. */
export const hasNoControl = (text: string): boolean => !/\p{Cc}/u.test(text) && text.isWellFormed();

/** What people call an organization, a project or an environment; empty means: as the slug. */
export const displayName = z
  .string()
  .trim()
  .max(80, "must be at most 80 characters")
  .refine(hasNoControl, "must not contain control characters or half a surrogate pair");
