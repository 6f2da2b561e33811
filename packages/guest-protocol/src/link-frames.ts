/** The frames of a link, and the errors of its ends. */
import * as z from "zod";

const sequence = z.int().nonnegative();
export const linkFrame = z.discriminatedUnion("frame", [
  z.object({
    frame: z.literal("hello"),
    last_received: sequence,
    /** Worker only: repeat this marker (hex) before the answer (resync.ts). */
    resync: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  }),
  z.object({ frame: z.literal("data"), seq: sequence.min(1), message: z.unknown() }),
  z.object({ frame: z.literal("ack"), seq: sequence }),
  /** Worker only, answered by `synced` with the same number: everything before was read. */
  z.object({ frame: z.literal("sync"), number: sequence }),
  z.object({ frame: z.literal("synced"), number: sequence }),
]);
export type LinkFrame = z.infer<typeof linkFrame>;

/** `send` after `close`, or waiting while the link closed. */
export class LinkClosedError extends Error {
  override readonly name = "LinkClosedError";
  constructor() {
    super("The link is closed.");
  }
}

/** Paths and codes only: the texts of zod may quote what the peer sent. */
export function issues(error: z.ZodError): string {
  return error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.join(".") || "message"}: ${issue.code}`)
    .join(", ");
}
