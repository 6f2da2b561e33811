/** Options that every wait takes (contract 13.6), checked where they are given. */
import { expectText, fail, show } from "../authoring/checks.ts";

export interface WaitOptions {
  /** For those who look at the run: at most 64 KiB as JSON. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** At most 32 of at most 128 bytes. */
  readonly tags?: readonly string[];
}

const maxTags = 32;
const maxTagBytes = 128;
const maxMetadataBytes = 64 * 1024;
const bytesOf = (text: string) => new TextEncoder().encode(text).length;

/** `{metadata, tags}` as the wire has them. Throws a TypeError or RangeError that names `where`. */
export function labelsOf(
  options: WaitOptions,
  where: string,
): { metadata: Record<string, unknown>; tags: string[] } {
  return {
    metadata: metadataOf(options.metadata ?? {}, `${where}.metadata`),
    tags: tagsOf(options.tags ?? [], `${where}.tags`),
  };
}

function tagsOf(tags: unknown, where: string): string[] {
  if (!Array.isArray(tags)) fail(where, `must be an array of strings, got ${show(tags)}`);
  if (tags.length > maxTags) throw new RangeError(`${where}: at most ${maxTags} tags, got ${tags.length}`);
  return tags.map((tag, index) => {
    const text = expectText(tag, `${where}[${index}]`);
    if (bytesOf(text) > maxTagBytes) throw new RangeError(`${where}[${index}]: at most ${maxTagBytes} bytes`);
    return text;
  });
}

function metadataOf(metadata: unknown, where: string): Record<string, unknown> {
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
    fail(where, `must be an object, got ${show(metadata)}`);
  }
  const text = JSON.stringify(metadata);
  if (bytesOf(text) > maxMetadataBytes)
    throw new RangeError(`${where}: at most ${maxMetadataBytes} bytes as JSON`);
  return JSON.parse(text) as Record<string, unknown>;
}

/** A correlation id: a string of at most 512 bytes. */
export function correlationOf(value: unknown, where: string): string | undefined {
  if (value === undefined) return undefined;
  const text = expectText(value, where);
  if (bytesOf(text) > 512) throw new RangeError(`${where}: at most 512 bytes`);
  return text;
}

/** A sequence number: a whole number of at least 0. */
export function sequenceOf(value: unknown, where: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    fail(where, `must be a whole number of at least 0, got ${show(value)}`);
  }
  return value;
}
