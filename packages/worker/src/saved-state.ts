/** What goes with a saved guest's memory: the part `state` of its archive. */
import { callMethod, linkSnapshot } from "@helmr/guest-protocol";
import { checkpointRecord } from "@helmr/isolation";
import { z } from "zod";

const heldCall = z.object({
  type: z.literal("call"),
  call_id: z.int().positive(),
  method: callMethod,
  params_json: z.string(),
});
export type HeldCall = z.infer<typeof heldCall>;

export const savedState = z.object({
  format: z.literal(1),
  record: checkpointRecord,
  link: linkSnapshot,
  calls: z.array(heldCall),
});
export type SavedState = Omit<z.infer<typeof savedState>, "format">;
