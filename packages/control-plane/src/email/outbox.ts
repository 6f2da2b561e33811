/**
 * E-mail that leaves in the background: whoever asked does not wait for the mail server, and does not learn from its time
 * whether an address is known.
 *
 * OB1 At most `maxWaiting` messages wait; who would add one more is told so before anything is done.
 * OB2 At most `maxSending` are being sent. One that fails for now is tried again, three times in all; then it is given up,
 *     and the log says so.
 * OB3 At close what waits gets a moment; what is still there then is given up. Messages do not outlive the process: a link
 *     that did not arrive is asked for again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError } from "@helmr/api";
import type { Logger } from "pino";
import { EmailError } from "./email-error.ts";
import type { EmailMessage, Mailer } from "./mailer.ts";

export interface Outbox {
  /** Throws ApiError 503 when the next `add` would find no room. OB1. */
  requireRoom(): void;
  add(message: EmailMessage): void;
  /** OB3. */
  close(): Promise<void>;
}

export interface OutboxOptions {
  /** Default 1000. */
  readonly maxWaiting?: number;
  /** Default 4. */
  readonly maxSending?: number;
  /** Before the second and the third try. Default 2 s and 15 s. */
  readonly retryAfterMs?: readonly number[];
  /** Default 5,000. */
  readonly closeGraceMs?: number;
}

export function createOutbox(mailer: Mailer, logger: Logger, options: OutboxOptions = {}): Outbox {
  const { maxWaiting = 1000, maxSending = 4, retryAfterMs = [2_000, 15_000], closeGraceMs = 5_000 } = options;
  const waiting: EmailMessage[] = [];
  const sending = new Set<Promise<void>>();
  const givenUp = new AbortController();

  function requireRoom(): void {
    if (waiting.length < maxWaiting) return;
    throw new ApiError(503, "too many e-mails are waiting to be sent; try again in a minute");
  }

  function startSending(): void {
    while (sending.size < maxSending) {
      const message = waiting.shift();
      if (message === undefined) return;
      const sent = send(message).finally(() => {
        sending.delete(sent);
        startSending();
      });
      sending.add(sent);
    }
  }

  /** Never rejects. OB2. */
  async function send(message: EmailMessage): Promise<void> {
    for (const pauseMs of [...retryAfterMs, undefined]) {
      try {
        return await mailer.send(message);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        const mayHelp = error instanceof EmailError && error.isTemporary;
        if (pauseMs === undefined || !mayHelp || givenUp.signal.aborted) {
          logger.error({ subject: message.subject, reason }, "an e-mail was not sent");
          return;
        }
        logger.warn({ subject: message.subject, reason, pauseMs }, "an e-mail is tried again");
        await sleep(pauseMs, undefined, { signal: givenUp.signal }).catch(() => {});
      }
    }
  }

  return {
    requireRoom,
    add: (message) => {
      requireRoom();
      if (givenUp.signal.aborted) throw new ApiError(503, "the server is stopping; try again in a minute");
      waiting.push(message);
      startSending();
    },
    close: async () => {
      const timer = setTimeout(() => {
        waiting.length = 0;
        givenUp.abort();
      }, closeGraceMs);
      const aborted = new Promise<void>((resolve) => {
        givenUp.signal.addEventListener("abort", () => resolve(), { once: true });
      });
      while (sending.size > 0 && !givenUp.signal.aborted) {
        await Promise.race([Promise.all(sending), aborted]);
      }
      clearTimeout(timer);
      givenUp.abort();
    },
  };
}
