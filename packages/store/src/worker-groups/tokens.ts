/** Bootstrap tokens of worker groups: what a worker registers with. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { hashSecret } from "../workers/lifecycle.ts";

/** Make the worker group and its bootstrap token, if they are not there. `token`: at least 32 random bytes of text. */
export async function ensureBootstrapToken(db: Queryable, token: string, group = "default"): Promise<void> {
  await transaction(db, async (tx) => {
    await sql`insert into worker_groups (id, name) values (${uuidv7()}, ${group}) on conflict (name) do nothing`.execute(
      tx,
    );
    await sql`insert into worker_bootstrap_tokens (id, worker_group_id, token_hash)
      select ${uuidv7()}::uuid, id, ${hashSecret(token)} from worker_groups where name = ${group}
      on conflict (token_hash) do nothing`.execute(tx);
  });
}
