/** Secrets (contract 10): names and times; a value is written and never read back. */
import { z } from "zod";
import { secretName } from "./values.ts";

/** Bounds what is encrypted in one piece and handed to a guest's environment or tmpfs. */
export const maxSecretBytes = 64 * 1024;

export const secret = z.strictObject({
  project_id: z.string(),
  environment_id: z.string(),
  name: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type Secret = z.infer<typeof secret>;
export const secretList = z.strictObject({ secrets: z.array(secret) });
export const secretParams = z.object({ name: secretName });
export const secretPutRequest = z.strictObject({
  value: z
    .string()
    .refine((text) => new TextEncoder().encode(text).length <= maxSecretBytes, {
      error: `must be at most ${maxSecretBytes} bytes`,
    })
    .refine((text) => text.isWellFormed(), { error: "must not contain half a surrogate pair" }),
});
