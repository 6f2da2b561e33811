/** Queues of an environment: limits come with the deployment, pauses are an operator's. */
import { z } from "zod";
import { queueName } from "./values.ts";

export const queue = z.strictObject({
  name: z.string(),
  /** Of the current deployment; null: none. Counts per concurrency key. */
  concurrency_limit: z.int().nullable(),
  /** It starts no run until it is resumed. */
  paused: z.boolean(),
  paused_at: z.string().optional(),
  /** In the current deployment. */
  declared: z.boolean(),
  queued: z.int(),
  running: z.int(),
  waiting: z.int(),
  /** Since when the run that waits longest could have started. */
  oldest_queued_at: z.string().optional(),
});
export type Queue = z.infer<typeof queue>;
export const queueList = z.strictObject({ queues: z.array(queue) });
/** `/` in the name is written `%2F`. */
export const queueParams = z.object({ queueName });
