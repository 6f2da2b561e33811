/**
 * E-mail through an SMTP server.
 *
 *   smtp://host           port 587, STARTTLS; a server that does not offer it is refused when there is a password
 *   smtps://host          port 465, TLS from the start
 *   ?tls=require          of smtp: refuse a server without STARTTLS also without a password
 *   ?tls=off              of smtp: never STARTTLS (a relay on this machine)
 *
 * User and password of the URL are percent-encoded where they hold `@`, `:`, `/` or `%`. Certificates are checked against
 * those that Node trusts; more are trusted with NODE_EXTRA_CA_CERTS.
 */
import { createTransport } from "nodemailer";
import { isLoopbackHost } from "../sign-in/loopback.ts";
import { EmailError } from "./email-error.ts";
import type { Mailer } from "./mailer.ts";

const connectTimeoutMs = 10_000;
/** Silence of the server in a conversation. */
const socketTimeoutMs = 20_000;
/** A message from its turn in the pool to the server's word on it, whatever happens. */
const sendTimeoutMs = 60_000;
const maxConnections = 4;

export interface SmtpConfig {
  readonly url: string;
  readonly from: string;
}

/** Throws for a URL that names no server. */
export function createSmtpMailer({ url, from }: SmtpConfig): Mailer {
  const server = parseSmtpUrl(url);
  const transport = createTransport(
    {
      pool: true,
      maxConnections,
      maxRequeues: 1,
      ...server,
      connectionTimeout: connectTimeoutMs,
      greetingTimeout: connectTimeoutMs,
      dnsTimeout: connectTimeoutMs,
      socketTimeout: socketTimeoutMs,
      // Texts come from here only, but nothing of this machine may ever be attached to a message.
      disableFileAccess: true,
      disableUrlAccess: true,
    },
    { from },
  );
  return {
    delivers: true,
    send: async ({ to, subject, text }) => {
      await transport
        .sendMail({ to, subject, text, signal: AbortSignal.timeout(sendTimeoutMs) })
        .catch((error: unknown) => {
          throw describeFailure(error, server);
        });
    },
    close: async () => transport.close(),
  };
}

interface SmtpServer {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
  readonly requireTLS: boolean;
  readonly ignoreTLS: boolean;
  readonly auth?: { readonly user: string; readonly pass: string };
}

function parseSmtpUrl(text: string): SmtpServer {
  const refuse = (why: string) =>
    new Error(`HELMR_SMTP_URL: ${why}; it looks like smtp://user:password@host:587 or smtps://...`);
  const url = URL.parse(text);
  if (url === null || url.hostname === "") throw refuse("is not a URL");
  if (url.protocol !== "smtp:" && url.protocol !== "smtps:") throw refuse("must begin with smtp: or smtps:");
  const secure = url.protocol === "smtps:";
  const tls = url.searchParams.get("tls") ?? "auto";
  if (!["auto", "require", "off"].includes(tls)) throw refuse("tls must be require or off");
  if (secure && tls === "off") throw refuse("smtps cannot have tls=off");
  const [user, pass] = [decode(url.username), decode(url.password)];
  if (user === undefined || pass === undefined) throw refuse("user or password is not percent-encoded");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const sendsPassword = user !== "" && !isLoopbackHost(url.host);
  return {
    host,
    port: url.port === "" ? (secure ? 465 : 587) : Number(url.port),
    secure,
    requireTLS: !secure && (tls === "require" || (tls === "auto" && sendsPassword)),
    ignoreTLS: tls === "off",
    ...(user !== "" && { auth: { user, pass } }),
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Replies of the server from 500 on are its last word; so is a password that it refuses. */
function describeFailure(error: unknown, { host, port }: SmtpServer): EmailError {
  const { code, responseCode, response, message } = error as {
    code?: string;
    responseCode?: number;
    response?: string;
    message?: string;
  };
  const server = `the mail server ${host}:${port}`;
  if (code === "EAUTH" || code === "ENOAUTH") {
    return new EmailError(`${server} refused the user or password of HELMR_SMTP_URL`, { isTemporary: false });
  }
  if (code === "ETLS") {
    return new EmailError(`${server} offers no TLS that can be trusted: ${message}`, { isTemporary: false });
  }
  if (responseCode !== undefined) {
    return new EmailError(`${server} refused the message: ${response ?? responseCode}`, {
      isTemporary: responseCode < 500,
    });
  }
  const isConfig = code === "ECONFIG" || code === "EENVELOPE";
  return new EmailError(`${server} did not take the message: ${message ?? code ?? "no answer"}`, {
    isTemporary: !isConfig,
  });
}
