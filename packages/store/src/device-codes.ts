/**
 * Device codes: how a command line signs in without a browser of its own (RFC 8628, contract 12). It holds the device
 * code and polls; a signed-in person types the user code and approves.
 *
 *   -         pending   startDeviceCode     at most `maxPendingDeviceCodes` are pending
 *   pending   approved  approveDeviceCode   by an active member: who, and in which organization
 *   pending   denied    denyDeviceCode      by any signed-in member; for good
 *   approved  denied    signing out everywhere, or the approver is no active member any more
 *   approved  consumed  pollDeviceCode      makes the session, in the same transaction
 *
 * Expired is each of them but consumed once expires_at has passed (no write); the dispatcher removes them an hour later.
 *
 *   D1 One approval makes one session: the row is locked from the look to the change, so of two polls one gets it.
 *   D2 Of the device code only the sha256 is stored. The user code is no credential: it needs a signed-in person.
 *   D3 A device that polls faster than its interval is told so, and from then on must wait 5 s longer.
 */
import { createHash, randomBytes, randomInt } from "node:crypto";
import { sql } from "kysely";
import { type Actor, recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { createUserSession } from "./user-sessions.ts";

/** Contract 12. */
export const deviceCodeLifetimeSeconds = 600;
export const devicePollIntervalSeconds = 5;
/** Bounds what anonymous requests can make the database hold. */
export const maxPendingDeviceCodes = 10_000;

/** RFC 8628 3.5. An interval as long as the code's life says all there is to say. */
const slowDownSeconds = 5;
const maxIntervalSeconds = deviceCodeLifetimeSeconds;
/** Two polls an interval apart may arrive closer together than they were sent. */
const pollToleranceMs = 500;

const userCodeAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const userCodeLength = 8;
const userCodePattern = new RegExp(`^[${userCodeAlphabet}]{${userCodeLength}}$`);
const deviceCodePattern = /^[A-Za-z0-9_-]{43}$/;
/** A collision has a chance of 10,000 in 32^8; three in a row do not happen. */
const userCodeAttempts = 3;

export type DeviceCodeStatus = "pending" | "approved" | "denied" | "consumed" | "expired";

export interface StartedDeviceCode {
  /** Shown this once. */
  readonly deviceCode: string;
  /** `XXXX-XXXX`. */
  readonly userCode: string;
}

/** The code as it is stored, from what a person typed; undefined for what cannot be one. */
export function normalizeUserCode(text: string): string | undefined {
  const code = text.toUpperCase().replaceAll(/[\s-]/g, "");
  return userCodePattern.test(code) ? code : undefined;
}

/** Undefined while `maxPendingDeviceCodes` wait for an answer. */
export async function startDeviceCode(db: Queryable): Promise<StartedDeviceCode | undefined> {
  for (let attempt = 1; attempt <= userCodeAttempts; attempt += 1) {
    const deviceCode = randomBytes(32).toString("base64url");
    const userCode = newUserCode();
    const { rows } = await sql<{ full: boolean; inserted: boolean }>`
      with pending as (
        select count(*) as codes from (
          select from device_codes where status = 'pending' and expires_at > now() limit ${maxPendingDeviceCodes}::integer) one),
      inserted as (
        insert into device_codes (id, device_code_hash, user_code, status, interval_seconds, expires_at)
        select ${uuidv7()}::uuid, ${hashDeviceCode(deviceCode)}::bytea, ${userCode}::text, 'pending',
          ${devicePollIntervalSeconds}::integer, now() + make_interval(secs => ${deviceCodeLifetimeSeconds})
        from pending where codes < ${maxPendingDeviceCodes}::integer
        on conflict (user_code) do nothing
        returning id)
      select codes >= ${maxPendingDeviceCodes}::integer as full, exists (select from inserted) as inserted from pending`.execute(
      db,
    );
    if (rows[0]?.full === true) return undefined;
    if (rows[0]?.inserted === true) {
      return { deviceCode, userCode: `${userCode.slice(0, 4)}-${userCode.slice(4)}` };
    }
  }
  throw new Error("no free user code was found");
}

function newUserCode(): string {
  return Array.from(
    { length: userCodeLength },
    () => userCodeAlphabet[randomInt(userCodeAlphabet.length)],
  ).join("");
}

export type DevicePoll =
  | { readonly outcome: "pending" | "slow_down" | "denied" | "expired" | "unknown" }
  | { readonly outcome: "approved"; readonly token: string; readonly expiresInSeconds: number };

interface PolledRow {
  readonly id: string;
  readonly status: Exclude<DeviceCodeStatus, "expired">;
  readonly expired: boolean;
  readonly too_fast: boolean;
  readonly user_id: string | null;
  readonly organization_id: string | null;
  readonly label: string | null;
  readonly active: boolean;
}

/** The device asks; an approval is handed out once (D1). `actor`: where the device asks from. */
export async function pollDeviceCode(db: Queryable, actor: Actor, deviceCode: string): Promise<DevicePoll> {
  if (!deviceCodePattern.test(deviceCode)) return { outcome: "unknown" };
  return await transaction(db, async (tx) => {
    const { rows } = await sql<PolledRow>`
      select d.id, d.status, d.expires_at <= clock_timestamp() as expired, d.user_id, d.organization_id,
        coalesce(d.last_polled_at + make_interval(secs => d.interval_seconds - ${pollToleranceMs / 1000}::float8) > clock_timestamp(),
          false) as too_fast,
        coalesce(u.email, u.display_name) as label, coalesce(m.status = 'active', false) as active
      from device_codes d
      left join users u on u.id = d.user_id
      left join organization_members m on m.organization_id = d.organization_id and m.user_id = d.user_id
      where d.device_code_hash = ${hashDeviceCode(deviceCode)} for update of d`.execute(tx);
    const row = rows[0];
    if (row === undefined || row.status === "consumed") return { outcome: "unknown" };
    if (row.expired) return { outcome: "expired" };
    if (row.status === "denied") return { outcome: "denied" };
    if (row.status === "pending") return await notePoll(tx, row);
    return await consume(tx, actor, row);
  });
}

/** D3. */
async function notePoll(tx: Tx, { id, too_fast: tooFast }: PolledRow): Promise<DevicePoll> {
  const slower = tooFast ? slowDownSeconds : 0;
  await sql`update device_codes set last_polled_at = clock_timestamp(),
      interval_seconds = least(interval_seconds + ${slower}::integer, ${maxIntervalSeconds}::integer)
    where id = ${id}`.execute(tx);
  return { outcome: tooFast ? "slow_down" : "pending" };
}

async function consume(tx: Tx, actor: Actor, row: PolledRow): Promise<DevicePoll> {
  const { id, user_id: userId, organization_id: organizationId, label, active } = row;
  if (userId === null || organizationId === null || label === null || !active) {
    await sql`update device_codes set status = 'denied', user_id = null, organization_id = null where id = ${id}`.execute(
      tx,
    );
    return { outcome: "denied" };
  }
  await sql`update device_codes set status = 'consumed' where id = ${id}`.execute(tx);
  const { token, expiresInSeconds } = await createUserSession(
    tx,
    { ...actor, label },
    { userId, organizationId, kind: "cli" },
  );
  return { outcome: "approved", token, expiresInSeconds };
}

/** What a person sees who was given the user code; undefined when there is none such. */
export async function getDeviceCode(
  db: Queryable,
  userCode: string,
): Promise<{ readonly status: DeviceCodeStatus; readonly expiresAt: Date } | undefined> {
  const code = normalizeUserCode(userCode);
  if (code === undefined) return undefined;
  const { rows } = await sql<{ status: DeviceCodeStatus; expires_at: Date }>`
    select case when status <> 'consumed' and expires_at <= now() then 'expired' else status end as status, expires_at
    from device_codes where user_code = ${code}`.execute(db);
  const row = rows[0];
  return row && { status: row.status, expiresAt: row.expires_at };
}

export interface DeviceDecision {
  readonly userId: string;
  readonly organizationId: string;
}

/**
 * Let the device in as this user, in this organization. The status afterwards: `approved`, or `consumed` when the device
 * has come for it already. Undefined when the code is unknown, expired, denied or approved by somebody else.
 */
export async function approveDeviceCode(
  db: Queryable,
  actor: Actor,
  userCode: string,
  { userId, organizationId }: DeviceDecision,
): Promise<DeviceCodeStatus | undefined> {
  const code = normalizeUserCode(userCode);
  if (code === undefined) return undefined;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{ id: string }>`
      update device_codes set status = 'approved', user_id = ${userId}, organization_id = ${organizationId}
      where user_code = ${code} and status = 'pending' and expires_at > now() returning id`.execute(tx);
    const approved = rows[0];
    if (approved !== undefined) {
      await recordAudit(tx, actor, { action: "device.approve", organizationId, resourceId: approved.id });
      return "approved";
    }
    const before = await sql<{ status: DeviceCodeStatus }>`select status from device_codes
      where user_code = ${code} and user_id = ${userId} and (status = 'consumed' or expires_at > now())`.execute(
      tx,
    );
    return before.rows[0]?.status;
  });
}

/** Refuse the device. Undefined when the code is unknown, expired or approved already. */
export async function denyDeviceCode(
  db: Queryable,
  actor: Actor,
  userCode: string,
  { organizationId }: Pick<DeviceDecision, "organizationId">,
): Promise<DeviceCodeStatus | undefined> {
  const code = normalizeUserCode(userCode);
  if (code === undefined) return undefined;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{ id: string }>`update device_codes set status = 'denied'
      where user_code = ${code} and status = 'pending' and expires_at > now() returning id`.execute(tx);
    const denied = rows[0];
    if (denied !== undefined) {
      await recordAudit(tx, actor, { action: "device.deny", organizationId, resourceId: denied.id });
      return "denied";
    }
    const before = await sql`select from device_codes
      where user_code = ${code} and status = 'denied' and expires_at > now()`.execute(tx);
    return before.rows.length > 0 ? "denied" : undefined;
  });
}

function hashDeviceCode(deviceCode: string): Buffer {
  return createHash("sha256").update(deviceCode).digest();
}
