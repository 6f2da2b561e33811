/** Loaded by the task host at its start, uncompiled: goes the way every task module goes, so that the way is warm. */
import { image, queue, sandbox, task } from "@helmr/sdk";

const box = sandbox("warm").image(image("warm").from("warm"));
export const warm = task({
  id: "warm",
  sandbox: box,
  run: async (ctx): Promise<string> => ctx.run.id,
});
void queue;
