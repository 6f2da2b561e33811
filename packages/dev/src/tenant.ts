/** What a ready stack has: an organization, the project `default` with its environments, and an API key that works. */
import { apiKeyScopes } from "@helmr/api";
import { createApiKey, type Database, ensureDefaultTenant, findApiKey, systemActor } from "@helmr/store";
import type { DataFolder } from "./data-folder.ts";

export interface Tenant {
  readonly project: string;
  readonly environment: string;
  readonly apiKey: string;
}

/** The same tenant and key at every start of the folder; a key that was revoked or lost is made anew. */
export async function ensureTenant(db: Database, folder: DataFolder): Promise<Tenant> {
  const { production } = await ensureDefaultTenant(db);
  const names = { project: "default", environment: "production" };
  const state = await folder.readState();
  if (state.apiKey !== undefined && (await findApiKey(db, state.apiKey)) !== undefined) {
    return { ...names, apiKey: state.apiKey };
  }
  const { rawKey } = await createApiKey(
    db,
    { ...production, actor: systemActor("helmr dev") },
    { name: "helmr dev", scopes: apiKeyScopes },
  );
  await folder.writeState({ ...state, apiKey: rawKey });
  return { ...names, apiKey: rawKey };
}
