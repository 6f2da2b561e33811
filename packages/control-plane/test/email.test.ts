/** E-mail against a real SMTP server, and against what Resend's API documents: what arrives, and what is said when not. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { text } from "node:stream/consumers";
import { createMailer, type MailerConfig } from "@helmr/control-plane";
import { pino } from "pino";
import { afterEach, describe, expect, test, vi } from "vitest";
import { EmailError } from "../src/email/email-error.ts";
import { createOutbox } from "../src/email/outbox.ts";
import { decodedText, startTestSmtp, type TestSmtpOptions } from "./support/smtp.ts";

const silent = pino({ level: "silent" });
const from = "Helmr <helmr@example.com>";
const message = {
  to: "ada@example.com",
  subject: "Hello",
  text: "Open https://helmr.example/x?token=a_b-c\n",
};
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function smtp(options?: TestSmtpOptions) {
  const server = await startTestSmtp(options);
  cleanups.push(() => server.stop());
  return server;
}

function mailer(config: MailerConfig) {
  const made = createMailer(config, silent);
  cleanups.push(() => made.close());
  return made;
}

const smtpTo = (authority: string) => mailer({ kind: "smtp", url: `smtp://${authority}`, from });

async function failureOf(sending: Promise<void>): Promise<EmailError> {
  const error: unknown = await sending.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EmailError)) throw new Error(`not refused as expected: ${String(error)}`);
  return error;
}

describe("SMTP", () => {
  test("delivers, with user and password", async () => {
    const server = await smtp({ user: "us:er", password: "p@ss/%" });
    const { send } = smtpTo(`us%3Aer:p%40ss%2F%25@127.0.0.1:${server.port}`);
    await Promise.all(Array.from({ length: 10 }, () => send(message)));
    expect(server.messages).toHaveLength(10);
    const [received] = server.messages;
    if (received === undefined) throw new Error("nothing arrived");
    expect(received).toMatchObject({ to: ["ada@example.com"], from: "helmr@example.com" });
    expect(received.raw).toContain("From: Helmr <helmr@example.com>");
    expect(received.raw).toContain("Subject: Hello");
    expect(decodedText(received)).toContain("https://helmr.example/x?token=a_b-c");
  });

  test("a wrong password is for good, and is not told again", async () => {
    const server = await smtp({ user: "user", password: "right" });
    const error = await failureOf(smtpTo(`user:wrong-secret@127.0.0.1:${server.port}`).send(message));
    expect(error).toMatchObject({ isTemporary: false });
    expect(error.message).toContain("HELMR_SMTP_URL");
    expect(JSON.stringify([error.message, error.stack])).not.toContain("wrong-secret");
  });

  test.each([
    [550, false],
    [450, true],
  ])("a recipient refused with %i", async (code, isTemporary) => {
    const server = await smtp({ refuseRecipient: () => code });
    const error = await failureOf(smtpTo(`127.0.0.1:${server.port}`).send(message));
    expect(error).toMatchObject({ isTemporary });
    expect(error.message).toContain("no such mailbox");
    expect(server.messages).toEqual([]);
  });

  test("a server that is down may come back", async () => {
    const server = await startTestSmtp();
    await server.stop();
    const error = await failureOf(smtpTo(`127.0.0.1:${server.port}`).send(message));
    expect(error).toMatchObject({ isTemporary: true });
    expect(error.message).toContain(`127.0.0.1:${server.port}`);
  });

  test("a server that hangs up in the middle may come back", async () => {
    const server = createTcpServer((socket) => socket.end("220 hello\r\n")).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(async () => server.close());
    const error = await failureOf(
      smtpTo(`127.0.0.1:${(server.address() as AddressInfo).port}`).send(message),
    );
    expect(error).toMatchObject({ isTemporary: true });
  });

  test("tls=require refuses a server without STARTTLS, and one whose certificate nobody vouches for", async () => {
    for (const withoutTls of [true, false]) {
      const server = await smtp({ withoutTls });
      const error = await failureOf(smtpTo(`127.0.0.1:${server.port}?tls=require`).send(message));
      expect(error.message).toMatch(/TLS|certificate/i);
      expect(server.messages).toEqual([]);
    }
  });

  test("tls=off does not use what is offered", async () => {
    const server = await smtp({ withoutTls: false });
    await smtpTo(`127.0.0.1:${server.port}?tls=off`).send(message);
    expect(server.messages).toMatchObject([{ secure: false }]);
  });

  test.each([
    "nonsense",
    "http://host",
    "smtp://",
    "smtp://host?tls=maybe",
    "smtps://host?tls=off",
    "smtp://u%:p@host",
  ])("%s is no server", (url) => {
    expect(() => createMailer({ kind: "smtp", url, from }, silent)).toThrow(/HELMR_SMTP_URL.*smtp:\/\//);
  });
});

describe("Resend", () => {
  async function api(status: number, body: unknown) {
    const requests: { readonly request: IncomingMessage; readonly body: unknown }[] = [];
    const server = createServer((request, response) => {
      text(request).then((sent) => {
        requests.push({ request, body: JSON.parse(sent) });
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(async () => {
      server.closeAllConnections();
      server.close();
    });
    const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { requests, mailer: mailer({ kind: "resend", apiKey: "re_secret", from, apiUrl }) };
  }

  test("delivers", async () => {
    const { requests, mailer: resend } = await api(200, { id: "x" });
    await resend.send(message);
    expect(requests).toMatchObject([
      {
        request: { method: "POST", url: "/emails", headers: { authorization: "Bearer re_secret" } },
        body: { from, to: ["ada@example.com"], subject: message.subject, text: message.text },
      },
    ]);
  });

  test.each([
    [401, false],
    [403, false],
    [422, false],
    [429, true],
    [500, true],
  ])("an answer %i", async (status, isTemporary) => {
    const { mailer: resend } = await api(status, { message: "because" });
    const error = await failureOf(resend.send(message));
    expect(error).toMatchObject({ isTemporary });
    expect(error.message).toContain("because");
    expect(error.message).not.toContain("re_secret");
  });

  test("nobody there", async () => {
    const resend = mailer({ kind: "resend", apiKey: "re_secret", from, apiUrl: "http://127.0.0.1:1" });
    expect(await failureOf(resend.send(message))).toMatchObject({ isTemporary: true });
  });
});

test("log and none", async () => {
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
  const log = createMailer({ kind: "log" }, logger);
  await log.send(message);
  expect(log.delivers).toBe(true);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ level: 30, ...message }]);
  const none = createMailer({ kind: "none" }, logger);
  await none.send(message);
  expect(none.delivers).toBe(false);
  expect(lines).toHaveLength(1);
});

describe("the outbox", () => {
  /** Ends each sending when told to. */
  function held() {
    const ends: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
    return {
      ends,
      mailer: {
        delivers: true,
        send: () => new Promise<void>((resolve, reject) => ends.push({ resolve, reject })),
        close: async () => {},
      },
    };
  }
  const temporary = () => new EmailError("later", { isTemporary: true });

  test("OB1 has room for so many, and says so before anything is done", async () => {
    const { mailer: slow, ends } = held();
    const outbox = createOutbox(slow, silent, { maxWaiting: 2, maxSending: 1 });
    for (let index = 0; index < 3; index += 1) outbox.add(message);
    expect(() => outbox.requireRoom()).toThrow(/too many e-mails/);
    expect(() => outbox.add(message)).toThrow(/too many e-mails/);
    expect(ends).toHaveLength(1);
    ends[0]?.resolve();
    await vi.waitUntil(() => ends.length === 2);
    outbox.requireRoom();
    for (let index = 1; index < 3; index += 1) {
      await vi.waitUntil(() => ends.length > index);
      ends[index]?.resolve();
    }
    await outbox.close();
  });

  test("OB2 tries again what may succeed, three times in all, and nothing else", async () => {
    const { mailer: failing, ends } = held();
    const outbox = createOutbox(failing, silent, { retryAfterMs: [1, 1] });
    outbox.add(message);
    for (let index = 0; index < 3; index += 1) {
      await vi.waitUntil(() => ends.length > index);
      ends[index]?.reject(temporary());
    }
    await outbox.close();
    expect(ends).toHaveLength(3);
    const again = createOutbox(failing, silent, { retryAfterMs: [1, 1] });
    again.add(message);
    ends[3]?.reject(new EmailError("never", { isTemporary: false }));
    await again.close();
    expect(ends).toHaveLength(4);
  });

  test("says in the log what was not sent and why, without the link", async () => {
    const lines: string[] = [];
    const logger = pino({ level: "debug" }, { write: (line: string) => lines.push(line) });
    const { mailer: failing, ends } = held();
    const outbox = createOutbox(failing, logger, { retryAfterMs: [1] });
    outbox.add(message);
    for (let index = 0; index < 2; index += 1) {
      await vi.waitUntil(() => ends.length > index);
      ends[index]?.reject(temporary());
    }
    await outbox.close();
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { msg: "an e-mail is tried again", reason: "later" },
      { msg: "an e-mail was not sent", reason: "later", subject: message.subject },
    ]);
    expect(lines.join()).not.toContain("token=");
  });

  test("OB3 waits at close for what is under way, but not for ever", async () => {
    const { mailer: slow, ends } = held();
    const outbox = createOutbox(slow, silent, { closeGraceMs: 100 });
    outbox.add(message);
    await outbox.close();
    expect(() => outbox.add(message)).toThrow(/stopping/);
    ends[0]?.resolve();
    const patient = createOutbox(slow, silent, { closeGraceMs: 60_000 });
    patient.add(message);
    const closing = patient.close();
    ends[1]?.resolve();
    await closing;
  });
});
