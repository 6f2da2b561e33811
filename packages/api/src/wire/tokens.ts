/** Tokens (contract 2.4, 5): what somebody outside completes, once. */
import { z } from "zod";
import { parseDurationMs } from "../duration.ts";
import { anyJson } from "./streams.ts";
import { idempotencyKey, longLimit, metadata, tags, uuid } from "./values.ts";

export const tokenStatuses = ["pending", "completed", "expired", "cancelled"] as const;

const shape = {
  id: z.string(),
  status: z.enum(tokenStatuses).optional(),
  timeout_at: z.string().nullable(),
  data: z.unknown().optional(),
  tags: z.array(z.string()).optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
};
export const token = z.strictObject(shape);
export type Token = z.infer<typeof token>;
/** The two secrets are given by create only. */
export const createdToken = z.strictObject({
  ...shape,
  callback_url: z.string(),
  public_access_token: z.string(),
});
export const tokenList = z.strictObject({ tokens: z.array(token), next_cursor: z.string().optional() });

const unitMs = { milliseconds: 1, seconds: 1000, minutes: 60_000, hours: 3_600_000 } as const;
const amount = z.number().optional();
const durationParts = z.strictObject({
  milliseconds: amount,
  seconds: amount,
  minutes: amount,
  hours: amount,
  duration: z.string().optional(),
});
/** About 100 years: what is added to a time of today stays a time. */
const maxTimeoutMs = 100 * 365.25 * 86_400_000;

/** Contract 13.3: a duration string, a number of milliseconds, or an object whose parts are summed. To milliseconds. */
export const tokenTimeout = z
  .union([z.string(), z.number(), durationParts], {
    error: 'must be a duration like "10m", a number of milliseconds, or an object like {"minutes": 10}',
  })
  .transform((value, context): number => {
    const ms = timeoutMs(value);
    if (ms !== undefined && ms > 0 && ms <= maxTimeoutMs) return Math.ceil(ms);
    context.addIssue({
      code: "custom",
      message: 'must be a positive duration of at most 100 years, like "10m", 600000 or {"minutes": 10}',
    });
    return z.NEVER;
  });

function timeoutMs(value: string | number | z.output<typeof durationParts>): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "string") return parseDurationMs(value);
  const ofText = value.duration === undefined ? 0 : parseDurationMs(value.duration);
  if (ofText === undefined) return undefined;
  const parts = Object.entries(unitMs).map(([unit, ms]) => (value[unit as keyof typeof unitMs] ?? 0) * ms);
  return parts.reduce((sum, part) => sum + part, ofText);
}

export const tokenCreateRequest = z.strictObject({
  /** null or absent: 7 days. */
  timeout: tokenTimeout.nullable().optional(),
  tags: tags.optional(),
  metadata: metadata.optional(),
  idempotency_key: idempotencyKey.optional(),
});
/** Absent data is null. */
export const tokenCompleteRequest = z.strictObject({ data: anyJson });
export const tokenCompletion = z.strictObject({
  status: z.enum(["completed", "already_completed"]),
  token,
});

/** `state` is `status`, `after` is `cursor`: the id of the last token of the page before. */
export const tokenListQuery = z.object({
  status: z.enum(tokenStatuses).optional(),
  state: z.enum(tokenStatuses).optional(),
  cursor: uuid.optional(),
  after: uuid.optional(),
  limit: longLimit.optional(),
});
export const tokenParams = z.object({ tokenID: uuid });
export const tokenCallbackParams = z.object({ tokenID: uuid, callbackSecret: z.string().max(200) });
