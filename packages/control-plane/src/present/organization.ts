/** Rows of organizations, members, invitations and the audit log as the wire shows them (contract 11.1). */
import type { AuditLogRecord, Invitation, Member, Organization } from "@helmr/api";
import type { AuditRow, InvitationRow, MemberRow, OrganizationRow } from "@helmr/store";

export function presentOrganization(row: OrganizationRow): Organization {
  return { id: row.id, slug: row.slug, name: row.name, created_at: row.created_at.toISOString() };
}

export function presentMember(row: MemberRow): Member {
  return {
    user_id: row.user_id,
    display_name: row.display_name,
    ...(row.email === null ? {} : { email: row.email }),
    role: row.role,
    status: row.status,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    ...(row.disabled_at === null ? {} : { disabled_at: row.disabled_at.toISOString() }),
  };
}

export function presentInvitation(row: InvitationRow): Invitation {
  return {
    id: row.id,
    email: row.email,
    role: row.role,
    status: row.status,
    ...(row.invited_by_user_id === null ? {} : { invited_by_user_id: row.invited_by_user_id }),
    ...(row.accepted_by_user_id === null ? {} : { accepted_by_user_id: row.accepted_by_user_id }),
    ...(row.revoked_by_user_id === null ? {} : { revoked_by_user_id: row.revoked_by_user_id }),
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
    ...(row.accepted_at === null ? {} : { accepted_at: row.accepted_at.toISOString() }),
    ...(row.revoked_at === null ? {} : { revoked_at: row.revoked_at.toISOString() }),
  };
}

export function presentAuditRecord(row: AuditRow): AuditLogRecord {
  return {
    id: row.id,
    at: row.at.toISOString(),
    actor: {
      kind: row.actor_kind,
      ...(row.actor_id === null ? {} : { id: row.actor_id }),
      label: row.actor_label,
    },
    action: row.action,
    resource_kind: row.resource_kind,
    ...(row.resource_id === null ? {} : { resource_id: row.resource_id }),
    ...(row.project_id === null ? {} : { project_id: row.project_id }),
    ...(row.environment_id === null ? {} : { environment_id: row.environment_id }),
    ...(row.address === null ? {} : { address: row.address }),
    ...(row.user_agent === null ? {} : { user_agent: row.user_agent }),
    ...(row.request_id === null ? {} : { request_id: row.request_id }),
    attributes: row.attributes,
  };
}
