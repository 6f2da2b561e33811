/** Schemas of variables that more than one process has. */
import { fileURLToPath } from "node:url";
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

/** The folder that the object store is. */
export const casUri = z
  .string()
  .transform((text, context) => {
    const parsed = URL.parse(text);
    if (parsed?.protocol === "file:" && parsed.host === "" && parsed.pathname.length > 1) {
      return fileURLToPath(parsed);
    }
    const message =
      parsed?.protocol === "s3:"
        ? "s3:// comes with a later version; use file:///path of a folder that control plane and workers share"
        : "must be file:///path";
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  })
  .describe(
    "object store of sources and artifacts: file:///path of a folder that control plane and workers share",
  );
