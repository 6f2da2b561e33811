/** `helmr api-key`: the keys by which programs work in an environment. A key is shown once, when it is made. */
import { type Command, Option } from "commander";
import type { ApiKey } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withMember } from "../context.ts";
import { CliError, exitCodes, usageError } from "../errors.ts";
import { note, paintStatus, writeJson, writeStdout, writeTable } from "../output.ts";
import { repeated } from "../values.ts";

interface CreateOptions extends EnvironmentOptions {
  readonly scope?: string[];
  readonly expiresInDays?: string;
  readonly quiet?: boolean;
}

export function register(program: Command): void {
  const group = declare(program, "api-key", "Manage the API keys of an environment", ["helmr api-key list"]);
  inEnvironment(
    declare(group, "create <name>", "Create a key; it is printed this once", [
      "helmr api-key create ci --scope tasks:deploy --scope runs:create --scope runs:read --expires-in-days 90",
      "helmr api-key create ci --scope runs:read --quiet > key.txt",
    ]),
  )
    .option("--scope <scope>", "what the key may do, such as runs:create; give it several times", repeated)
    .addOption(
      new Option("--expires-in-days <days>", "how long it works (default: until it is revoked)").choices([
        "30",
        "90",
        "365",
      ]),
    )
    .option("-q, --quiet", "print the key alone")
    .action(create);
  inEnvironment(
    declare(group, "list", "List keys, newest first", [
      "helmr api-key list --filter all",
      "helmr api-key list --project web --env staging",
    ]),
  )
    .addOption(
      new Option("--filter <status>", "which ones")
        .choices(["active", "expired", "revoked", "all"])
        .default("active"),
    )
    .action(list);
  inEnvironment(
    declare(group, "revoke <key>", "Revoke a key, by id, name or its first characters", [
      "helmr api-key revoke hlmr_sk_AbCdEfGh",
    ]),
  ).action(revoke);
}

const create = (name: string, options: CreateOptions): Promise<void> =>
  withMember(options, async (api) => {
    const scopes = options.scope ?? [];
    if (scopes.length === 0) {
      const { apiKeyScopes } = await import("@helmr/api");
      throw usageError("a key needs at least one --scope", `there are ${apiKeyScopes.join(" ")}`);
    }
    const body = {
      name,
      permissions: [{ scopes }],
      ...(options.expiresInDays === undefined ? {} : { expires_in_days: Number(options.expiresInDays) }),
    };
    const key = await api.send("POST", "/api-keys", { body, schema: "createdApiKey" });
    if (options.json) return writeJson(key);
    if (!options.quiet) note(`the key ${key.name} is created; keep it now, it is not shown again`);
    await writeStdout(`${key.raw_key}\n`);
  });

const list = (options: EnvironmentOptions & { filter: string }): Promise<void> =>
  withMember(options, async (api) => {
    const answer = await api.get("/api-keys", { query: { filter: options.filter }, schema: "apiKeyList" });
    if (options.json) return writeJson(answer);
    await writeTable<ApiKey>(
      [
        { header: "NAME", value: (row) => row.name },
        { header: "KEY", value: (row) => `${row.key_prefix}…` },
        { header: "STATUS", value: (row) => paintStatus(row.status) },
        { header: "SCOPES", value: scopesOf },
        { header: "LAST USED", value: (row) => row.last_used_at ?? "never" },
        { header: "EXPIRES", value: (row) => row.expires_at ?? "never" },
        { header: "ID", value: (row) => row.id },
      ],
      answer.items,
    );
    if (answer.has_more) note("hint: there are more; only the newest 200 are shown");
  });

const revoke = (name: string, options: EnvironmentOptions): Promise<void> =>
  withMember(options, async (api) => {
    const { items } = await api.get("/api-keys", { query: { filter: "all" }, schema: "apiKeyList" });
    const id = name.toLowerCase();
    const named = items.filter((key) => [key.id, key.key_prefix].includes(name) || key.id === id);
    const active = items.filter((key) => key.status === "active" && key.name === name);
    const [key, another] = named.length > 0 ? named : active;
    if (another !== undefined)
      throw usageError(`several keys are named ${name}`, "name one by its id: `helmr api-key list`");
    // A key beyond the newest 200 is not listed; its id is enough.
    if (key === undefined && !/^[0-9a-f-]{36}$/.test(id)) {
      throw new CliError(`there is no key ${name}`, {
        exitCode: exitCodes.notFound,
        hint: "`helmr api-key list` shows them, `--env` chooses another environment",
      });
    }
    await api.remove(`/api-keys/${encodeURIComponent(key?.id ?? id)}`);
    if (options.json) return writeJson({ id: key?.id ?? id, revoked: true });
    note(`the key ${key?.name ?? id} is revoked`);
  });

const scopesOf = (key: ApiKey): string => (key.permissions ?? []).flatMap(({ scopes }) => scopes).join(" ");
