/**
 * The objects of the contract, written down by hand: every key, whether it may be absent, and what it holds. A key that is
 * not listed fails, as in a strict client.
 */
import { expect } from "vitest";

type Check = (value: unknown) => boolean;
type Fields = Readonly<Record<string, Check>>;

const text: Check = (value) => typeof value === "string";
const filled: Check = (value) => typeof value === "string" && value !== "";
const bool: Check = (value) => typeof value === "boolean";
const int: Check = (value) => Number.isSafeInteger(value);
const object: Check = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const anything: Check = (value) => value !== undefined;
const isTrue: Check = (value) => value === true;
const uuidText: Check = (value) =>
  typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
/** Minted by the server: version 7. */
const id: Check = (value) => uuidText(value) && String(value)[14] === "7";
/** RFC 3339, UTC, with fractional seconds. */
const timestamp: Check = (value) =>
  typeof value === "string" &&
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/.test(value) &&
  !Number.isNaN(Date.parse(value));
const base64: Check = (value) =>
  typeof value === "string" && Buffer.from(value, "base64").toString("base64") === value;
const digits: Check = (value) => typeof value === "string" && /^\d+$/.test(value);
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const filledList =
  (check: Check): Check =>
  (value) =>
    listOf(check)(value) && (value as unknown[]).length > 0;

/** A key ending in `?` may be absent. */
function problemsOf(value: unknown, fields: Fields): string[] {
  if (!object(value)) return [`is no object: ${JSON.stringify(value)}`];
  const entries = Object.entries(fields).map(
    ([key, check]) => [key.replace(/\?$/, ""), key.endsWith("?"), check] as const,
  );
  const known = new Set(entries.map(([key]) => key));
  const record = value as Record<string, unknown>;
  return [
    ...Object.keys(record).flatMap((key) => (known.has(key) ? [] : [`${key} is not in the contract`])),
    ...entries.flatMap(([key, optional, check]) => {
      if (!Object.hasOwn(record, key)) return optional ? [] : [`${key} is missing`];
      return check(record[key]) ? [] : [`${key} is ${JSON.stringify(record[key])}`];
    }),
  ];
}

const shaped =
  (fields: Fields): Check =>
  (value) =>
    problemsOf(value, fields).length === 0;

/** Fails with every difference to the contract's object. */
export function expectShape(value: unknown, fields: Fields): void {
  expect(problemsOf(value, fields)).toEqual([]);
}

export function expectList(value: unknown, key: string, fields: Fields, more: Fields = {}): void {
  expectShape(value, { [key]: listOf(anything), ...more });
  for (const item of (value as Record<string, unknown[]>)[key] ?? []) expectShape(item, fields);
}

/** Contract 2.1 */
export const session: Fields = {
  id,
  project_id: id,
  environment_id: id,
  task_id: filled,
  initial_deployment_id: id,
  active_deployment_id: id,
  "external_id?": filled,
  status: oneOf("open", "closed", "cancelled", "expired"),
  activity: oneOf("idle", "queued", "running", "waiting"),
  can_close: bool,
  "current_run_id?": id,
  "workspace_id?": id,
  "metadata?": object,
  "tags?": filledList(filled),
  "result?": anything,
  "error?": object,
  "timed_out?": isTrue,
  "terminal_reason?": anything,
  "expires_at?": timestamp,
  "expired_at?": timestamp,
  created_at: timestamp,
  updated_at: timestamp,
};

/** Contract 2.2 */
export const run: Fields = {
  id,
  project_id: id,
  environment_id: id,
  deployment_id: id,
  deployment_task_id: id,
  session_id: id,
  version: filled,
  deployment_version: filled,
  api_version: oneOf("2026-06-06"),
  "sdk_version?": filled,
  "cli_version?": filled,
  task_id: filled,
  status: oneOf("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"),
  "metadata?": object,
  "attempt_number?": int,
  exit_code: orNull(int),
  "output?": anything,
  created_at: timestamp,
  updated_at: timestamp,
  "pending_wait?": object,
};

/** Contract 3.1, 3.3 */
export const sessionStart: Fields = {
  session: shaped(session),
  run: shaped(run),
  "is_cached?": isTrue,
  "timed_out?": isTrue,
};
export const sessionRun: Fields = {
  id,
  run_id: id,
  deployment_id: id,
  "previous_run_id?": id,
  turn_index: int,
  status: filled,
  execution_status: filled,
  "terminal_outcome?": filled,
  created_at: timestamp,
  "ended_at?": timestamp,
};

/** Contract 6 */
export const runCounts: Fields = {
  queued: int,
  running: int,
  waiting: int,
  succeeded: int,
  failed: int,
  cancelled: int,
  expired: int,
};
export const runCancel: Fields = {
  run: shaped(run),
  operation: shaped({
    id,
    run_id: id,
    kind: oneOf("cancel"),
    status: filled,
    "reason?": text,
    created_at: timestamp,
    "applied_at?": timestamp,
  }),
};
export const event: Fields = {
  id: digits,
  "run_id?": id,
  "deployment_id?": id,
  "run_lease_id?": uuidText,
  "attempt_id?": uuidText,
  "attempt_number?": int,
  trace: shaped({
    trace_id: (value) => typeof value === "string" && /^[0-9a-f]{32}$/.test(value),
    span_id: (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value),
    traceparent: (value) =>
      typeof value === "string" && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(value),
  }),
  category: filled,
  severity: filled,
  source: filled,
  kind: filled,
  message: filled,
  at: timestamp,
  occurred_at: timestamp,
  redaction_class: filled,
  attributes: object,
};
export const eventPage: Fields = { events: listOf(shaped(event)), cursor: int, "next_cursor?": int };
export const runLogs: Fields = {
  stdout_base64: base64,
  stderr_base64: base64,
  cursor: digits,
  stdout_bytes: int,
  stderr_bytes: int,
  truncated: bool,
};
export const runLogFrame: Fields = {
  id: digits,
  run_id: id,
  run_lease_id: uuidText,
  attempt_number: int,
  stream: oneOf("stdout", "stderr"),
  content_base64: base64,
  bytes: int,
  observed_seq: int,
  at: timestamp,
};

/** Contract 9.2 */
export const task: Fields = {
  id,
  task_id: filled,
  "file_path?": filled,
  "export_name?": filled,
  "handler_entrypoint?": filled,
  "bundle_digest?": filled,
  bundle_format_version: int,
  "queue_name?": filled,
  "concurrency_limit?": int,
  "ttl?": filled,
  created_at: timestamp,
};
export const deployment: Fields = {
  id,
  version: filled,
  api_version: oneOf("2026-06-06"),
  "sdk_version?": filled,
  "cli_version?": filled,
  bundle_format_version: int,
  worker_protocol_version: filled,
  project_id: id,
  environment_id: id,
  content_hash: filled,
  deployment_source: shaped({ digest: filled, "size_bytes?": int, "media_type?": filled }),
  "build_manifest_digest?": filled,
  "deployment_manifest_digest?": filled,
  status: oneOf("queued", "building", "deployed", "failed"),
  "error?": object,
  tasks: orNull(listOf(shaped(task))),
  created_at: timestamp,
  building_at: orNull(timestamp),
  built_at: orNull(timestamp),
  deployed_at: orNull(timestamp),
  failed_at: orNull(timestamp),
};
export const sandbox: Fields = {
  id,
  deployment_id: id,
  sandbox_id: filled,
  fingerprint: filled,
  image_artifact_id: filled,
  image_artifact_format: filled,
  rootfs_digest: filled,
  image_digest: filled,
  image_format: filled,
  workspace_mount_path: filled,
  "resource_floor?": shaped({ milli_cpu: int, memory_mib: int }),
  disk_floor_mib: int,
  "network_policy?": object,
  runtime_abi: filled,
  guestd_abi: filled,
  adapter_abi: filled,
  filesystem_format: filled,
  "default_uid?": int,
  "default_gid?": int,
  default_workdir: filled,
  contract_version: int,
  created_at: timestamp,
};

/** Contract 10 */
export const secret: Fields = {
  project_id: id,
  environment_id: id,
  name: filled,
  created_at: timestamp,
  updated_at: timestamp,
};

/** Contract 11 */
export const environment: Fields = {
  id,
  project_id: id,
  slug: filled,
  name: filled,
  color_hex: (value) => typeof value === "string" && /^#[0-9A-F]{6}$/.test(value),
  is_default: bool,
  created_at: timestamp,
  updated_at: timestamp,
};
/** Without its environments. */
export const project: Fields = {
  id,
  slug: filled,
  name: filled,
  is_default: bool,
  created_at: timestamp,
  updated_at: timestamp,
};
export const projectWithEnvironments: Fields = {
  ...project,
  environments: listOf(shaped(environment)),
};
export const apiKey: Fields = {
  id,
  name: filled,
  key_prefix: (value) => typeof value === "string" && /^hlmr_sk_[A-Za-z0-9_-]{8}$/.test(value),
  project_id: id,
  environment_id: id,
  "permissions?": filledList(shaped({ scopes: filledList(filled) })),
  status: oneOf("active", "expired", "revoked"),
  created_at: timestamp,
  last_used_at: orNull(timestamp),
  expires_at: orNull(timestamp),
  revoked_at: orNull(timestamp),
};
export const createdApiKey: Fields = {
  ...apiKey,
  raw_key: (value) => typeof value === "string" && /^hlmr_sk_[A-Za-z0-9_-]{43}$/.test(value),
};

/** Contract 11.1 */
export const organization: Fields = { id, slug: filled, name: filled, created_at: timestamp };
const role = oneOf("owner", "admin", "developer", "viewer");
export const member: Fields = {
  user_id: id,
  display_name: filled,
  "email?": filled,
  role,
  status: filled,
  created_at: timestamp,
  updated_at: timestamp,
  "disabled_at?": timestamp,
};
export const invitation: Fields = {
  id,
  email: filled,
  role,
  status: oneOf("pending", "accepted", "revoked", "expired"),
  "invited_by_user_id?": id,
  "accepted_by_user_id?": id,
  "revoked_by_user_id?": id,
  created_at: timestamp,
  expires_at: timestamp,
  "accepted_at?": timestamp,
  "revoked_at?": timestamp,
};
export const createdInvitation: Fields = { ...invitation, invite_url: filled };
export const invitationList: Fields = { invitations: listOf(shaped(invitation)), has_more: bool };
export const magicLinkStart: Fields = { sent: isTrue, "email?": filled, "debug_url?": filled };

/** Contract 12 */
export const deviceStart: Fields = {
  device_code: (value) => typeof value === "string" && /^[A-Za-z0-9_-]{43}$/.test(value),
  user_code: (value) => typeof value === "string" && /^[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}$/.test(value),
  verification_uri: filled,
  "verification_uri_complete?": filled,
  expires_in_seconds: oneOf(600),
  interval_seconds: oneOf(5),
};
export const deviceToken: Fields = {
  access_token: (value) => typeof value === "string" && /^(?!hlmr_sk_)[A-Za-z0-9_-]{40,}$/.test(value),
  token_type: oneOf("bearer"),
  expires_in_seconds: oneOf(30 * 86_400),
};
export const me: Fields = {
  user_id: id,
  display_name: filled,
  profile_image_url: text,
  "public_url?": filled,
  "org_id?": id,
  "org_name?": filled,
  "org_slug?": filled,
  "role?": role,
  permissions: listOf(filled),
  organization_required: bool,
  project_required: bool,
  access_required: bool,
  setup_token_required: bool,
};
