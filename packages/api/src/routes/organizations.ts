/** Organizations, their members, invitations and audit log (contract 11.1). */
import * as wire from "../wire/index.ts";
import { get, member, patch, post, remove, user } from "./route.ts";

const manageMembers = member("members.manage");

export const organizationRoutes = {
  listOrganizations: {
    ...get,
    ...user,
    path: "/organizations",
    summary: "List the organizations in which the user is a member",
    responses: { 200: wire.ownOrganizationList },
  },
  createOrganization: {
    ...post,
    ...user,
    path: "/organizations",
    summary: "Create an organization; the caller becomes its owner",
    body: wire.organizationCreateRequest,
    responses: { 201: wire.organization },
    errors: [409],
  },
  selectOrganization: {
    ...post,
    ...user,
    path: "/organizations/:organizationID/select",
    summary: "Let this session act in another organization",
    params: wire.organizationParams,
    bodyIgnored: true,
    responses: { 200: wire.organization },
  },

  listMembers: {
    ...get,
    ...manageMembers,
    path: "/members",
    summary: "List members, also those who were removed",
    responses: { 200: wire.memberList },
  },
  patchMember: {
    ...patch,
    ...manageMembers,
    path: "/members/:userID",
    summary: "Change a member's role",
    params: wire.memberParams,
    body: wire.memberPatchRequest,
    responses: { 200: wire.member },
    errors: [409],
  },
  removeMember: {
    ...remove,
    ...manageMembers,
    path: "/members/:userID",
    summary: "Remove a member: revokes the API keys they made here",
    params: wire.memberParams,
    responses: { 204: null },
    errors: [409],
  },

  listInvitations: {
    ...get,
    ...manageMembers,
    path: "/invitations",
    summary: "List invitations, newest first",
    responses: { 200: wire.invitationList },
  },
  createInvitation: {
    ...post,
    ...manageMembers,
    path: "/invitations",
    summary: "Invite somebody by e-mail address",
    body: wire.invitationCreateRequest,
    responses: { 201: wire.createdInvitation },
    errors: [429],
  },
  revokeInvitation: {
    ...remove,
    ...manageMembers,
    path: "/invitations/:invitationID",
    summary: "Revoke an invitation",
    params: wire.invitationParams,
    responses: { 204: null },
    errors: [409],
  },
  acceptInvitation: {
    ...post,
    ...user,
    path: "/invitations/accept",
    rateLimit: "invitation_accept",
    summary: "Become a member of the organization that invited the user",
    body: wire.invitationAcceptRequest,
    responses: { 200: wire.acceptedInvitation },
    errors: [410],
  },

  readAuditLog: {
    ...get,
    ...member("audit.read"),
    path: "/audit-log",
    summary: "Page through who did what, newest first",
    query: wire.auditLogQuery,
    responses: { 200: wire.auditLog },
  },
} as const;
