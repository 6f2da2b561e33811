/** The e-mail that invites somebody. The invitation holds without it: who made it has the link. */
import type { InvitationRow } from "@helmr/store";
import type { FastifyBaseLogger } from "fastify";
import type { Context } from "../context.ts";

export interface InvitationEmail {
  readonly invitation: InvitationRow;
  readonly organizationName: string;
  readonly invitedBy: string;
  readonly url: string;
}

/** Sends it in the background, or not at all. Never throws: a failure is in the log, without the link. */
export function sendInvitation(
  { mailer, outbox }: Pick<Context, "mailer" | "outbox">,
  logger: Pick<FastifyBaseLogger, "warn">,
  { invitation, organizationName, invitedBy, url }: InvitationEmail,
): void {
  if (!mailer.delivers) return;
  const day = invitation.expires_at.toISOString().slice(0, 10);
  const text = `${invitedBy} invites you to ${organizationName} on Helmr, with the role ${invitation.role}.

Accept until ${day}:
${url}

The link works once, for ${invitation.email} only. If you did not expect it, ignore this message.
`;
  try {
    outbox.add({ to: invitation.email, subject: `Invitation to ${organizationName}`, text });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    logger.warn(
      { invitationId: invitation.id, reason },
      "an invitation could not be sent; its link still works",
    );
  }
}
