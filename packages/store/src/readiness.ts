/** Whether a process can do its work with its database. */
import type { Database } from "./database.ts";
import { readSchemaState, schemaProblem } from "./schema-state.ts";

const answerLimitMs = 2_000;
const underWay = new WeakMap<Database, Promise<boolean>>();

/**
 * Whether the database answers within two seconds and this version may use its schema, which a later version may have
 * changed since the start. Callers that come together share one query: anybody may ask, and connections are few.
 */
export async function databaseIsUsable(db: Database): Promise<boolean> {
  let query = underWay.get(db);
  if (query === undefined) {
    query = isUsable(db).finally(() => underWay.delete(db));
    underWay.set(db, query);
  }
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), answerLimitMs);
  });
  try {
    return await Promise.race([query, limit]);
  } finally {
    clearTimeout(timer);
  }
}

async function isUsable(db: Database): Promise<boolean> {
  try {
    return typeof schemaProblem(await readSchemaState(db)) !== "string";
  } catch {
    return false;
  }
}
