/**
 * This worker's place at the control plane: its registration, and the credential that goes with it.
 *
 * | state      | enters by                                  | leaves by                                              |
 * |------------|--------------------------------------------|--------------------------------------------------------|
 * | none       | construction                               | register -> member                                     |
 * | member     | registered                                 | a call is refused -> refused; every so often it        |
 * |            |                                            | replaces its credential, and stays a member            |
 * | refused    | the credential is not known (any more)     | registered with the bootstrap token -> member;         |
 * |            |                                            | refused for `refusedLimitMs` -> out                    |
 * | out        | see left                                   | never: `failed` says what to do                        |
 *
 *  I1  A new credential counts when its answer is here; until then, and when the answer is lost, the old one is used.
 *  I2  One attempt at a time, whoever asks for it.
 */
import type { Logger } from "pino";
import {
  type ControlPlaneClient,
  type RegisterRequest,
  type Registration,
  UnauthorizedError,
} from "./control-plane-client.ts";
import { messageOf } from "./failure.ts";

export interface MembershipOptions {
  readonly client: Pick<ControlPlaneClient, "register" | "rotateCredential">;
  readonly bootstrapToken: string;
  /** Give or take a tenth, so that workers do not do it together. */
  readonly rotationMs: number;
  readonly refusedLimitMs?: number;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** A control plane that is restored from its backup, or started anew, may know the token a little later. */
const defaultRefusedLimitMs = 30_000;
const refusedPauseMs = 2_000;
/** After a rotation that failed; well within a rotation that is asked for every few minutes. */
const maxAgainMs = 10 * 60_000;

export class Membership {
  /** Resolves with why this worker can do nothing more; else never. */
  readonly failed: Promise<Error>;
  readonly #options: MembershipOptions;
  readonly #out = Promise.withResolvers<Error>();
  #description: RegisterRequest | undefined;
  #registering: Promise<void> | undefined;
  #refusedAt: number | undefined;
  #nextTryAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.failed = this.#out.promise;
    options.signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  async register(description: RegisterRequest): Promise<Registration> {
    const { client, bootstrapToken, rotationMs, signal } = this.#options;
    this.#description = description;
    const registration = await client.register(bootstrapToken, description, signal);
    this.#refusedAt = undefined;
    this.#scheduleRotation(rotationMs);
    return registration;
  }

  /** A call was refused: the control plane does not know this worker (any more). */
  onUnauthorized(): void {
    const { signal } = this.#options;
    if (signal.aborted || this.#description === undefined || performance.now() < this.#nextTryAt) return;
    this.#registering ??= this.#registerAgain(this.#description).finally(() => {
      this.#nextTryAt = performance.now() + refusedPauseMs;
      this.#registering = undefined;
    });
  }

  async #registerAgain(description: RegisterRequest): Promise<void> {
    const { logger, signal, refusedLimitMs = defaultRefusedLimitMs } = this.#options;
    this.#refusedAt ??= performance.now();
    const refusedAt = this.#refusedAt;
    try {
      await this.register(description);
      logger.info("registered again: the credential was not known any more");
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ reason: messageOf(error) }, "registering again failed");
      if (!(error instanceof UnauthorizedError) || performance.now() - refusedAt < refusedLimitMs) return;
      this.#out.resolve(
        new Error(
          `the control plane refuses this worker's credential and its bootstrap token: ${messageOf(error)}; ` +
            "set HELMR_WORKER_BOOTSTRAP_TOKEN to a token of its worker group that is good, and start it again",
        ),
      );
    }
  }

  #scheduleRotation(afterMs: number): void {
    clearTimeout(this.#timer);
    if (this.#options.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#rotate(), afterMs * (0.9 + Math.random() / 5));
    this.#timer.unref();
  }

  async #rotate(): Promise<void> {
    const { client, rotationMs, signal, logger } = this.#options;
    try {
      await client.rotateCredential(signal); // I1
      logger.info("the worker's credential was replaced");
      this.#scheduleRotation(rotationMs);
    } catch (error) {
      if (signal.aborted) return;
      logger.warn(
        { reason: messageOf(error) },
        "the worker's credential could not be replaced; trying again",
      );
      if (error instanceof UnauthorizedError) this.onUnauthorized();
      this.#scheduleRotation(Math.min(maxAgainMs, rotationMs / 10));
    }
  }
}
