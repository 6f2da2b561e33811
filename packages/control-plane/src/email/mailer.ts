/** Sending e-mail: what the control plane needs of it, and the one place that chooses how. */
import type { Logger } from "pino";
import { createResendMailer } from "./resend.ts";
import { createSmtpMailer } from "./smtp.ts";

export interface EmailMessage {
  readonly to: string;
  readonly subject: string;
  /** Plain text; links in it are sent as they are. */
  readonly text: string;
}

export interface Mailer {
  /** Whether a message reaches anybody: without it, sign-in and invitations by link are only possible by hand. */
  readonly delivers: boolean;
  /** Resolves when the message was accepted for delivery; rejects with an EmailError. */
  send(message: EmailMessage): Promise<void>;
  close(): Promise<void>;
}

export type MailerConfig =
  /** `smtp://user:password@host:587` or `smtps://...:465`; see smtp.ts. `from`: `Helmr <helmr@example.com>`. */
  | { readonly kind: "smtp"; readonly url: string; readonly from: string }
  /** Default of `apiUrl`: Resend's own. */
  | { readonly kind: "resend"; readonly apiKey: string; readonly from: string; readonly apiUrl?: string }
  /** Messages, links included, go to the log: for development. */
  | { readonly kind: "log" }
  | { readonly kind: "none" };

/** Throws for settings that cannot work; connects at the first message. */
export function createMailer(config: MailerConfig, logger: Logger): Mailer {
  switch (config.kind) {
    case "smtp":
      return createSmtpMailer(config);
    case "resend":
      return createResendMailer(config);
    case "log":
      return createLogMailer(logger);
    case "none":
      return createNoMailer();
  }
}

function createLogMailer(logger: Logger): Mailer {
  return {
    delivers: true,
    send: async ({ to, subject, text }) => logger.info({ to, subject, text }, "e-mail"),
    close: async () => {},
  };
}

/** No e-mail at all. */
export function createNoMailer(): Mailer {
  return {
    delivers: false,
    send: async () => {},
    close: async () => {},
  };
}
