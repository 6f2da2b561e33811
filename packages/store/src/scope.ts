/** Whose data a query may touch. Every function over environment-scoped data takes one; none reads by id alone. */
export interface Scope {
  readonly organizationId: string;
  readonly projectId: string;
  readonly environmentId: string;
}
