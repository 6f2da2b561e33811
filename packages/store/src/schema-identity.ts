/** The tables of migration 0002: people, memberships, sign-in, the audit log. */
import type { MemberRole } from "@helmr/api";
import type { Generated } from "kysely";
import type {
  DefaultJsonb,
  DefaultTimestamp,
  Nullable,
  NullableTimestamp,
  Timestamp,
} from "./schema-columns.ts";

export type MemberStatus = "active" | "disabled";
export type IdentityProvider = "github" | "oidc" | "local";
export type ActorKind = "user" | "api_key" | "public_access_token" | "callback_url" | "system" | "anonymous";

export interface IdentitySchema {
  users: {
    id: string;
    email: Nullable<string>;
    display_name: string;
    profile_image_url: Nullable<string>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
  user_identities: {
    provider: IdentityProvider;
    issuer: string;
    subject: string;
    user_id: string;
    created_at: DefaultTimestamp;
  };
  organization_members: {
    organization_id: string;
    user_id: string;
    role: MemberRole;
    status: Generated<MemberStatus>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
    disabled_at: NullableTimestamp;
  };
  invitations: {
    id: string;
    organization_id: string;
    email: string;
    role: MemberRole;
    token_hash: Buffer;
    invited_by_user_id: Nullable<string>;
    accepted_by_user_id: Nullable<string>;
    revoked_by_user_id: Nullable<string>;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
    accepted_at: NullableTimestamp;
    revoked_at: NullableTimestamp;
  };
  user_sessions: {
    id: string;
    user_id: string;
    organization_id: Nullable<string>;
    token_hash: Buffer;
    kind: "browser" | "cli";
    created_at: DefaultTimestamp;
    last_used_at: DefaultTimestamp;
    expires_at: Timestamp;
    revoked_at: NullableTimestamp;
    address: Nullable<string>;
    user_agent: Nullable<string>;
  };
  magic_links: {
    token_hash: Buffer;
    email: string;
    redirect_after: string;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
    consumed_at: NullableTimestamp;
  };
  oauth_attempts: {
    state_hash: Buffer;
    provider: "github" | "oidc";
    browser_hash: Buffer;
    code_verifier: string;
    nonce: Nullable<string>;
    redirect_after: string;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
    consumed_at: NullableTimestamp;
  };
  device_codes: {
    id: string;
    device_code_hash: Buffer;
    user_code: string;
    status: "pending" | "approved" | "denied" | "consumed";
    user_id: Nullable<string>;
    organization_id: Nullable<string>;
    interval_seconds: number;
    last_polled_at: NullableTimestamp;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
  };
  audit_log: {
    id: string;
    organization_id: Nullable<string>;
    project_id: Nullable<string>;
    environment_id: Nullable<string>;
    actor_kind: ActorKind;
    actor_id: Nullable<string>;
    actor_label: string;
    action: string;
    resource_kind: string;
    resource_id: Nullable<string>;
    address: Nullable<string>;
    user_agent: Nullable<string>;
    request_id: Nullable<string>;
    attributes: DefaultJsonb<Record<string, unknown>>;
    at: DefaultTimestamp;
  };
}
