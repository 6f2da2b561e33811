/** The e-mail that invites somebody. The invitation holds without it: who made it has the link. */
import type { InvitationRow } from "@helmr/store";
import type { FastifyBaseLogger } from "fastify";
import type { Mailer } from "./mailer.ts";

/** How long the answer to the invitation waits for the mail server. */
const maxSendMs = 10_000;

export interface InvitationEmail {
  readonly invitation: InvitationRow;
  readonly organizationName: string;
  readonly invitedBy: string;
  readonly url: string;
}

/** Never rejects: a failure is in the log, without the link. */
export async function sendInvitation(
  mailer: Mailer,
  logger: Pick<FastifyBaseLogger, "warn">,
  { invitation, organizationName, invitedBy, url }: InvitationEmail,
): Promise<void> {
  if (!mailer.delivers) return;
  const day = invitation.expires_at.toISOString().slice(0, 10);
  const text = `${invitedBy} invites you to ${organizationName} on Helmr, with the role ${invitation.role}.

Accept until ${day}:
${url}

The link works once, for ${invitation.email} only. If you did not expect it, ignore this message.
`;
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => timeout.reject(new Error(`the mail server did not answer within ${maxSendMs / 1000} s`)),
    maxSendMs,
  );
  try {
    const subject = `Invitation to ${organizationName}`;
    await Promise.race([mailer.send({ to: invitation.email, subject, text }), timeout.promise]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    logger.warn(
      { invitationId: invitation.id, reason },
      "an invitation could not be sent; its link still works",
    );
  } finally {
    clearTimeout(timer);
  }
}
