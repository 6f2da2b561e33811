/** `helmr audit`: who did what to which record, for owners and admins. */
import type { Command } from "commander";
import type { AuditRecord } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, withLogin } from "../context.ts";
import { note, writeJson, writeTable } from "../output.ts";
import { integer } from "../values.ts";

interface ListOptions extends ConnectionOptions {
  readonly limit?: number;
  readonly before?: string;
  readonly action?: string;
  readonly actor?: string;
  readonly resource?: string;
}

export function register(program: Command): void {
  const group = declare(program, "audit", "Look at who did what", ["helmr audit list"]);
  connected(
    declare(group, "list", "List what was done, newest first", [
      "helmr audit list --action secret.set",
      "helmr audit list --actor 01990000-0000-7000-8000-000000000001 --limit 20",
    ]),
  )
    .option("--limit <n>", "at most this many", integer(1, 200))
    .option("--before <record>", "only what is older than the record of this id: the next page")
    .option("--action <action>", "only this one, such as api_key.create")
    .option("--actor <id>", "only by this user or API key")
    .option("--resource <id>", "only on this record")
    .action(list);
}

const list = (options: ListOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const query = {
      limit: options.limit,
      before: options.before,
      action: options.action,
      actor_id: options.actor,
      resource_id: options.resource,
    };
    const answer = await api.get("/audit-log", { query, schema: "auditLog" });
    if (options.json) return writeJson(answer);
    await writeTable<AuditRecord>(
      [
        { header: "AT", value: (row) => row.at },
        { header: "ACTOR", value: (row) => `${row.actor.label} (${row.actor.kind.replace("_", " ")})` },
        { header: "ACTION", value: (row) => row.action },
        { header: "RESOURCE", value: (row) => row.resource_id },
        { header: "FROM", value: (row) => row.address },
        { header: "DETAILS", value: details },
      ],
      answer.records,
    );
    const last = answer.records.at(-1);
    if (answer.has_more && last !== undefined) note(`hint: there is more: --before ${last.id}`);
  });

const details = (record: AuditRecord): string =>
  Object.entries(record.attributes)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
