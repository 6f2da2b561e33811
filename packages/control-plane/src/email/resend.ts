/** E-mail through Resend's HTTP API (resend.com/docs/api-reference/emails/send-email). */
import { z } from "zod";
import { EmailError } from "./email-error.ts";
import type { Mailer } from "./mailer.ts";

const publicApi = "https://api.resend.com";
const sendTimeoutMs = 20_000;
const maxReasonLength = 300;

const failure = z.object({ message: z.string() });

export interface ResendConfig {
  readonly apiKey: string;
  readonly from: string;
  readonly apiUrl?: string;
}

export function createResendMailer({ apiKey, from, apiUrl = publicApi }: ResendConfig): Mailer {
  const url = `${apiUrl.replace(/\/+$/, "")}/emails`;
  return {
    delivers: true,
    send: async ({ to, subject, text }) => {
      const response = await fetch(url, {
        method: "POST",
        headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
        body: JSON.stringify({ from, to: [to], subject, text }),
        redirect: "error",
        signal: AbortSignal.timeout(sendTimeoutMs),
      }).catch((error: unknown) => {
        throw new EmailError(`Resend did not answer: ${reasonOf(error)}`, { isTemporary: true });
      });
      if (response.ok) return await response.body?.cancel();
      throw await describeFailure(response);
    },
    close: async () => {},
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

async function describeFailure(response: Response): Promise<EmailError> {
  const { status } = response;
  const body = failure.safeParse(await response.json().catch(() => undefined));
  const reason = body.success ? body.data.message.slice(0, maxReasonLength) : `status ${status}`;
  if (status === 401 || status === 403) {
    return new EmailError(`Resend refused HELMR_RESEND_API_KEY or HELMR_EMAIL_FROM: ${reason}`, {
      isTemporary: false,
    });
  }
  return new EmailError(`Resend refused the message: ${reason}`, {
    isTemporary: status === 429 || status >= 500,
  });
}
