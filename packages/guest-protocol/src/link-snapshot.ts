/** One side's state of a link, to go on from in another process; JSON without loss. */
import * as z from "zod";

export const linkSnapshot = z.object({
  format: z.literal(1),
  /** Number of the last message accepted by `send`. */
  sent_seq: z.int().nonnegative(),
  /** Number of the last message that was delivered; every one up to it was. */
  received_seq: z.int().nonnegative(),
  /** The frames of the last sent messages, oldest first, base64: the peer has not acknowledged them. */
  unacknowledged: z.array(z.base64()),
});
/** @see linkSnapshot */
export type LinkSnapshot = z.infer<typeof linkSnapshot>;
