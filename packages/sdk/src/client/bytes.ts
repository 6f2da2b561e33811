/** Bytes and base64 with what every runtime has; the newer runtimes' own conversion is several times faster. */
import { InvalidResponseError } from "../errors.ts";

/** ES2026. */
interface Native {
  readonly Uint8Array: { fromBase64?(text: string): Uint8Array };
}
interface NativeBytes {
  toBase64?(): string;
}

/** A text as UTF-8. Throws a TypeError on what is neither text nor bytes. */
export function bytesOf(data: string | Uint8Array, where: string): Uint8Array {
  if (typeof data === "string") return new TextEncoder().encode(data);
  if (data instanceof Uint8Array) return data;
  throw new TypeError(`${where}: must be a string or a Uint8Array`);
}

export function base64Of(bytes: Uint8Array): string {
  const native = (bytes as NativeBytes).toBase64?.();
  if (native !== undefined) return native;
  let binary = "";
  // A call takes a limited number of arguments.
  for (let start = 0; start < bytes.length; start += 8192)
    binary += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(binary);
}

/** Of the server's answer `what`: throws InvalidResponseError on text that is no base64. */
export function bytesOfBase64(text: string, what: string): Uint8Array {
  try {
    const native = (globalThis as Native).Uint8Array.fromBase64?.(text);
    if (native !== undefined) return native;
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
    return bytes;
  } catch (error) {
    throw new InvalidResponseError(`${what}: the server sent bad base64`, { cause: error });
  }
}
