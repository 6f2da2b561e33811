/** Events of runs and deployments (contract 6.1, 9.3). */
import { z } from "zod";
import { cursor, follow, limit } from "./values.ts";

export const event = z.strictObject({
  /** Decimal seq, from 1 per run or deployment. */
  id: z.string().regex(/^\d+$/),
  run_id: z.string().optional(),
  deployment_id: z.string().optional(),
  run_lease_id: z.string().optional(),
  attempt_id: z.string().optional(),
  attempt_number: z.int().optional(),
  trace: z.strictObject({ trace_id: z.string(), span_id: z.string(), traceparent: z.string() }),
  category: z.string(),
  severity: z.string(),
  source: z.string(),
  kind: z.string(),
  /** Equals `kind` for runs; a sentence for people for deployments. */
  message: z.string(),
  at: z.string(),
  occurred_at: z.string(),
  redaction_class: z.string(),
  attributes: z.record(z.string(), z.unknown()),
});
export type Event = z.infer<typeof event>;

/** `next_cursor` (the last event's seq) only when more exist. */
export const eventPage = z.strictObject({
  events: z.array(event),
  cursor: z.int(),
  next_cursor: z.int().optional(),
});
export type EventPage = z.infer<typeof eventPage>;

export const eventQuery = z.object({
  cursor: cursor.optional(),
  limit: limit.optional(),
  follow: follow.optional(),
});
export const logQuery = z.object({ cursor: cursor.optional(), follow: follow.optional() });
