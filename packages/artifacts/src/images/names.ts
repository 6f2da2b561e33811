/** Image references and the folder names they are stored under. */
import { createHash } from "node:crypto";

const REFERENCE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$/;

/**
 * The full form of a reference, so that `node:24` and `docker.io/library/node:24` are one image.
 *
 * @throws when it is no image reference.
 */
export function canonicalName(reference: string): string {
  if (!REFERENCE.test(reference)) throw new Error(`not an image reference: ${JSON.stringify(reference)}`);
  const slash = reference.indexOf("/");
  const first = slash < 0 ? "" : reference.slice(0, slash);
  const hasRegistry = first === "localhost" || first.includes(".") || first.includes(":");
  const withRegistry = hasRegistry ? reference : `docker.io/${slash < 0 ? "library/" : ""}${reference}`;
  const [path = "", digest] = withRegistry.split("@");
  const tag = /:[^:/]*$/;
  // A digest says everything a tag could; registries refuse both together.
  if (digest !== undefined) return `${path.replace(tag, "")}@${digest}`;
  return tag.test(path) ? path : `${path}:latest`;
}

/**
 * A folder name for a reference: readable, and unique by the start of its hash. It holds none of the `:` and `,` that
 * mount options give a meaning.
 */
export function folderName(reference: string): string {
  const name = canonicalName(reference);
  const readable = name.replace(/^docker\.io\/(library\/)?/, "").replaceAll(/[^A-Za-z0-9._-]/g, "_");
  return `${readable.slice(0, 100)}-${createHash("sha256").update(name).digest("hex").slice(0, 12)}`;
}
