/** Members of the organization in which the session acts, and invitations to it (contract 11.1). */
import type { Actor } from "@helmr/store";
import {
  acceptInvitation,
  createInvitation,
  listInvitations,
  listMembers,
  removeMember,
  revokeInvitation,
  updateMember,
} from "@helmr/store";
import type { Member } from "../auth/authorize.ts";
import type { Context } from "../context.ts";
import { sendInvitation } from "../email/invitation.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentInvitation, presentMember, presentOrganization } from "../present/organization.ts";
import { found } from "./found.ts";

const maxListedInvitations = 200;
const defaultInvitationDays = 7;

type MemberHandlers = Pick<
  Handlers,
  | "listMembers"
  | "patchMember"
  | "removeMember"
  | "listInvitations"
  | "createInvitation"
  | "revokeInvitation"
  | "acceptInvitation"
>;

export function memberHandlers(context: Context): MemberHandlers {
  const { db, authenticator } = context;
  return {
    listMembers: async ({ member }) => {
      const rows = await listMembers(db, member.organizationId);
      return { status: 200, body: { members: rows.map(presentMember) } };
    },
    patchMember: async (call) => {
      const change = { role: call.body.role, expectedRole: call.body.expected_role };
      const row = found(await updateMember(db, acting(call), call.params.userID, change), "member");
      authenticator.forget();
      return { status: 200, body: presentMember(row) };
    },
    removeMember: async (call) => {
      found((await removeMember(db, acting(call), call.params.userID)) || undefined, "member");
      authenticator.forget();
      return { status: 204, body: undefined };
    },
    listInvitations: async ({ member }) => {
      const rows = await listInvitations(db, member.organizationId, maxListedInvitations + 1);
      const invitations = rows.slice(0, maxListedInvitations).map(presentInvitation);
      return { status: 200, body: { invitations, has_more: rows.length > maxListedInvitations } };
    },
    createInvitation: async (call) => {
      const { email, role, expires_in_days: expiresInDays = defaultInvitationDays } = call.body;
      const created = await createInvitation(db, acting(call), { email, role, expiresInDays });
      const url = inviteUrl(context.config.publicUrl, created.token);
      sendInvitation(context, call.request.log, {
        ...created,
        url,
        invitedBy: call.actor.label,
      });
      return { status: 201, body: { ...presentInvitation(created.invitation), invite_url: url } };
    },
    revokeInvitation: async (call) => {
      const revoked = await revokeInvitation(db, acting(call), call.params.invitationID);
      found(revoked || undefined, "invitation");
      return { status: 204, body: undefined };
    },
    acceptInvitation: async ({ actor, user, body }) => {
      const { organization, role } = await acceptInvitation(db, { actor, ...user }, body.token);
      authenticator.forget();
      return { status: 200, body: { organization: presentOrganization(organization), role } };
    },
  };
}

function acting({ member, actor }: { readonly member: Member; readonly actor: Actor }) {
  return { organizationId: member.organizationId, actor };
}

function inviteUrl(publicUrl: string, token: string): string {
  return `${publicUrl.replace(/\/+$/, "")}/auth/invitation?token=${token}`;
}
