/** Sending e-mail: what the control plane needs of it. */

export interface EmailMessage {
  readonly to: string;
  readonly subject: string;
  /** Plain text; links in it are sent as they are. */
  readonly text: string;
}

export interface Mailer {
  /** Whether a message reaches anybody: without it, sign-in and invitations by link are only possible by hand. */
  readonly delivers: boolean;
  /** Resolves when the message was accepted for delivery; rejects with what the user should know. */
  send(message: EmailMessage): Promise<void>;
  close(): Promise<void>;
}

/** No e-mail at all. */
export function createNoMailer(): Mailer {
  return {
    delivers: false,
    send: async () => {},
    close: async () => {},
  };
}
