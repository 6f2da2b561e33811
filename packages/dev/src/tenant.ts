/**
 * What a ready stack has: an organization with the project `default` and its environments, an owner who is the person at
 * this machine, and two credentials that work: an API key of the environment, and a session of the owner for everything
 * that only people may do.
 */
import { apiKeyScopes } from "@helmr/api";
import {
  createApiKey,
  createUserSession,
  type Database,
  ensureDefaultTenant,
  ensureLocalOwner,
  findApiKey,
  findUserSession,
  type Scope,
  systemActor,
  transaction,
} from "@helmr/store";
import type { DataFolder } from "./data-folder.ts";

export interface Tenant {
  readonly project: string;
  readonly environment: string;
  readonly apiKey: string;
  readonly sessionToken: string;
  readonly localOwnerId: string;
}

const actor = systemActor("helmr dev");

/** The same tenant and credentials at every start of the folder; one that was revoked, expired or lost is made anew. */
export async function ensureTenant(db: Database, folder: DataFolder): Promise<Tenant> {
  const { production } = await ensureDefaultTenant(db);
  const { userId } = await ensureLocalOwner(db, production.organizationId);
  const state = await folder.readState();
  const apiKey = await ensureApiKey(db, production, state.apiKey);
  const sessionToken = await ensureSession(db, production, userId, state.sessionToken);
  await folder.writeState({ ...state, apiKey, sessionToken });
  return { project: "default", environment: "production", apiKey, sessionToken, localOwnerId: userId };
}

async function ensureApiKey(db: Database, scope: Scope, kept: string | undefined): Promise<string> {
  if (kept !== undefined && (await findApiKey(db, kept)) !== undefined) return kept;
  const key = { name: "helmr dev", scopes: apiKeyScopes };
  return (await createApiKey(db, { ...scope, actor }, key)).rawKey;
}

async function ensureSession(
  db: Database,
  { organizationId }: Scope,
  userId: string,
  kept: string | undefined,
): Promise<string> {
  const session = kept === undefined ? undefined : await findUserSession(db, kept);
  if (kept !== undefined && session?.userId === userId && session.membership?.status === "active")
    return kept;
  const created = await transaction(db, (tx) =>
    createUserSession(tx, actor, { userId, organizationId, kind: "cli" }),
  );
  return created.token;
}
