/** Whose data a query may touch, and who asks. */
import type { Actor } from "./audit.ts";

/** Every function over environment-scoped data takes one; none reads by id alone. */
export interface Scope {
  readonly organizationId: string;
  readonly projectId: string;
  readonly environmentId: string;
}

/** Every function that changes environment-scoped data on somebody's request takes one, and records who it was. */
export interface ActingScope extends Scope {
  readonly actor: Actor;
}
