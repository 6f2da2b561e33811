/** A real SMTP server on loopback that keeps what it is sent. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";
import { vi } from "vitest";

export interface ReceivedMessage {
  readonly to: readonly string[];
  readonly from: string;
  /** Whether the connection was encrypted when the message came. */
  readonly secure: boolean;
  /** Header and body as sent. */
  readonly raw: string;
}

export interface TestSmtp {
  readonly port: number;
  readonly messages: readonly ReceivedMessage[];
  /** The first message to the address. */
  messageTo(address: string): Promise<ReceivedMessage>;
  stop(): Promise<void>;
}

export interface TestSmtpOptions {
  /** Asks for these; without them nobody may log in. */
  readonly user?: string;
  readonly password?: string;
  /** STARTTLS is not offered. */
  readonly withoutTls?: boolean;
  /** Reply code for a recipient; undefined takes it. */
  readonly refuseRecipient?: (address: string) => number | undefined;
}

export async function startTestSmtp(options: TestSmtpOptions = {}): Promise<TestSmtp> {
  const messages: ReceivedMessage[] = [];
  const server = new SMTPServer({
    authOptional: options.user === undefined,
    allowInsecureAuth: true,
    hideSTARTTLS: options.withoutTls ?? true,
    onAuth: ({ username, password }, _session, done) => {
      const right = username === options.user && password === options.password;
      if (right) done(null, { user: username });
      else done(new Error("wrong user or password"));
    },
    onRcptTo: ({ address }, _session, done) => {
      const code = options.refuseRecipient?.(address);
      done(code === undefined ? null : Object.assign(new Error("no such mailbox"), { responseCode: code }));
    },
    onData: (stream, session, done) => {
      text(stream).then((raw) => {
        const { mailFrom, rcptTo } = session.envelope;
        messages.push({
          raw,
          secure: session.secure,
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
        });
        done();
      }, done);
    },
  });
  // A client that goes away in the middle is what some tests are about.
  server.on("error", () => {});
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  return {
    port: (server.server.address() as AddressInfo).port,
    messages,
    messageTo: async (address) => {
      const find = () => messages.find(({ to }) => to.includes(address));
      const found = await vi.waitUntil(find, { timeout: 30_000 });
      return found;
    },
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** The text of a message with its lines joined as quoted-printable says. */
export function decodedText({ raw }: ReceivedMessage): string {
  return raw
    .replace(/=\r?\n/g, "")
    .replace(/=([0-9A-F]{2})/g, (_match, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
