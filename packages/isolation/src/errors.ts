/** The one error type of this package: which layer failed, and what the operator can do about it. */

/**
 * `host`: a tool or kernel feature of this machine; `spec`: the caller asked for something impossible; `program`: what was to
 * be started is not in the guest's root; `checkpoint`: an image that cannot be used.
 */
export type IsolationLayer =
  | "host"
  | "network"
  | "filesystem"
  | "cgroup"
  | "sandbox"
  | "spec"
  | "program"
  | "checkpoint";

export class IsolationError extends Error {
  override readonly name = "IsolationError";
  readonly layer: IsolationLayer;

  constructor(layer: IsolationLayer, message: string, options?: ErrorOptions) {
    super(message, options);
    this.layer = layer;
  }
}

/** Text of an unknown thrown value, for messages that wrap it. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Node's `code` of a file system error (`ENOENT`, ...), or undefined. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
