-- Identity and tenancy: people, their organizations and sessions, how they sign in, and who did what.
-- Of every credential only the sha256 is stored. E-mail addresses are stored trimmed and in lower case.

create table users (
  id uuid primary key,
  email text unique,
  display_name text not null,
  profile_image_url text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- Who a provider says somebody is: `github` with the numeric account id, `oidc` with the issuer's subject, `local` for
-- the owner of an embedded stack.
create table user_identities (
  provider text not null check (provider in ('github', 'oidc', 'local')),
  issuer text not null,
  subject text not null,
  user_id uuid not null references users on delete cascade,
  created_at timestamptz not null default now(),
  primary key (provider, issuer, subject)
);
create index user_identities_by_user on user_identities (user_id);

-- Members: active -> disabled (removed), disabled -> active (invited again). Rows stay, so that records keep their names.
create table organization_members (
  organization_id uuid not null references organizations on delete cascade,
  user_id uuid not null references users on delete cascade,
  role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
  status text not null default 'active' check (status in ('active', 'disabled')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  disabled_at timestamptz,
  primary key (organization_id, user_id),
  check ((status = 'disabled') = (disabled_at is not null))
);
create index organization_members_by_user on organization_members (user_id);

-- Invitations: pending -> accepted | revoked; expired is pending whose expires_at has passed.
create table invitations (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  email text not null,
  role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
  token_hash bytea not null unique,
  invited_by_user_id uuid references users on delete set null,
  accepted_by_user_id uuid references users on delete set null,
  revoked_by_user_id uuid references users on delete set null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  accepted_at timestamptz,
  revoked_at timestamptz,
  check (accepted_at is null or revoked_at is null)
);
create index invitations_by_age on invitations (organization_id, created_at desc, id desc);

-- A signed-in browser or command line. organization_id: where its requests act, one of the user's organizations.
create table user_sessions (
  id uuid primary key,
  user_id uuid not null references users on delete cascade,
  organization_id uuid references organizations on delete set null,
  token_hash bytea not null unique,
  kind text not null check (kind in ('browser', 'cli')),
  created_at timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  address text,
  user_agent text
);
create index user_sessions_by_user on user_sessions (user_id) where revoked_at is null;
create index user_sessions_due on user_sessions (expires_at);

create table magic_links (
  token_hash bytea primary key,
  email text not null,
  redirect_after text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  consumed_at timestamptz
);
create index magic_links_due on magic_links (expires_at);

-- Sign-ins under way at GitHub or an OpenID Connect provider. browser_hash: the cookie of the browser that began it.
create table oauth_attempts (
  state_hash bytea primary key,
  provider text not null check (provider in ('github', 'oidc')),
  browser_hash bytea not null,
  code_verifier text not null,
  nonce text,
  redirect_after text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  consumed_at timestamptz
);
create index oauth_attempts_due on oauth_attempts (expires_at);

-- Device flow: pending -> approved | denied, approved -> consumed; expired is any whose expires_at has passed.
create table device_codes (
  id uuid primary key,
  device_code_hash bytea not null unique,
  user_code text not null unique,
  status text not null check (status in ('pending', 'approved', 'denied', 'consumed')),
  user_id uuid references users on delete cascade,
  organization_id uuid references organizations on delete cascade,
  interval_seconds integer not null,
  last_polled_at timestamptz,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  check ((status in ('approved', 'consumed')) = (user_id is not null and organization_id is not null))
);
create index device_codes_due on device_codes (expires_at);
create index device_codes_by_user on device_codes (user_id) where status = 'approved';

-- Who did what to which record, from where. No references: a record outlives what it tells of. attributes hold no secret.
create table audit_log (
  id uuid primary key,
  organization_id uuid,
  project_id uuid,
  environment_id uuid,
  actor_kind text not null check (actor_kind in
    ('user', 'api_key', 'public_access_token', 'callback_url', 'system', 'anonymous')),
  actor_id uuid,
  actor_label text not null,
  action text not null,
  resource_kind text not null,
  resource_id text,
  address text,
  user_agent text,
  request_id text,
  attributes jsonb not null default '{}',
  at timestamptz not null default now()
);
create index audit_log_by_age on audit_log (organization_id, id desc);
create index audit_log_by_action on audit_log (organization_id, action, id desc);
create index audit_log_by_actor on audit_log (organization_id, actor_id, id desc);
create index audit_log_by_resource on audit_log (organization_id, resource_id, id desc);

-- A key made by a member has that member's role, and ends with the membership. null: made by the installation itself.
alter table api_keys add column created_by_user_id uuid references users on delete cascade;
create index api_keys_by_environment on api_keys (environment_id, created_at desc, id desc);
create index api_keys_by_creator on api_keys (created_by_user_id);

-- Deletion: marked, then emptied in batches (../src/deletion). A marked row is not there for anybody but its deletion, and
-- its slug has become its id, so that the old slug is free at once.
alter table projects add column deleting_at timestamptz;
alter table environments add column deleting_at timestamptz;
create index environments_deleting on environments (deleting_at) where deleting_at is not null;
create index projects_deleting on projects (deleting_at) where deleting_at is not null;
create index deployments_by_source on deployments (source_digest);
-- Deleting a workspace asks whether a run or session still refers to it, once for each.
create index runs_by_workspace on runs (workspace_id);
create index sessions_by_workspace on sessions (workspace_id);
-- As with runs: a reference to a row that all writers share costs a lock on it per insert. Deployments go only with their
-- environment, whose lock a start holds, after everything that names them.
alter table sessions drop constraint sessions_initial_deployment_id_fkey;
alter table sessions drop constraint sessions_active_deployment_id_fkey;
alter table workspaces drop constraint workspaces_deployment_sandbox_id_fkey;
