/** Failures of builds and runs as the author reads them: which layer failed, in which step, and what to do. */

/** What a build ends with when it is the author's to mend; everything else is the worker's own trouble. */
export class BuildFailure extends Error {
  override readonly name = "BuildFailure";
  readonly kind: string;
  readonly step: string | undefined;
  readonly outputTail: string | undefined;
  /** The same build may succeed later (a registry that did not answer). */
  readonly retryable: boolean;

  constructor(
    kind: "source" | "dependencies" | "index" | "image_preparation" | "worker",
    message: string,
    details: {
      readonly step?: string;
      readonly outputTail?: string;
      readonly retryable?: boolean;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.kind = kind;
    this.step = details.step;
    this.outputTail = details.outputTail;
    this.retryable = details.retryable ?? false;
  }
}

/** Text of an unknown thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Cut a text to at most `maxBytes` of UTF-8, keeping its end, with a marker where it was cut. */
export function tailOf(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text;
  const marker = "[...] ";
  return (
    marker +
    new TextDecoder().decode(bytes.subarray(bytes.length - maxBytes + marker.length)).replace(/^\uFFFD+/, "")
  );
}

/** Cut a text to at most `maxLength` UTF-16 units, keeping its start. */
export function headOf(text: string, maxLength: number): string {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength - 6)} [...]`;
}
