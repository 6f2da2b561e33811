/** `helmr token`: what somebody outside completes, and what a run may be waiting for. */
import type { Command } from "commander";
import type { Token } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";
import { integer, jsonObject, jsonValue, repeated } from "../values.ts";

const exampleToken = "01990000-0000-7000-8000-000000000003";

export function register(program: Command): void {
  const group = declare(program, "token", "Create, complete and cancel what runs wait for", [
    `helmr token complete ${exampleToken} --data '{"approved":true}'`,
  ]);
  inEnvironment(
    declare(group, "create", "Create a token; its two secrets are shown this once", [
      "helmr token create --timeout 2h",
      `helmr token create --tag deploy --metadata '{"order":7}' --json`,
    ]),
  )
    .option("--timeout <duration>", "expire after this long (default: 7d)")
    .option("--tag <tag>", "may be given up to ten times", repeated)
    .option("--metadata <json>", "a JSON object, or @file")
    .option("--idempotency-key <key>", "the same key and options give the same token")
    .action(create);
  inEnvironment(declare(group, "list", "List tokens, oldest first", ["helmr token list --status pending"]))
    .option("--status <status>", "pending, completed, expired or cancelled")
    .option("--after <token>", "those made after this one")
    .option("--limit <n>", "at most this many", integer(1, 500))
    .action(list);
  inEnvironment(declare(group, "get <token>", "Show one token", [`helmr token get ${exampleToken}`])).action(
    get,
  );
  inEnvironment(
    declare(group, "complete <token>", "Complete a token: what waits for it goes on", [
      `helmr token complete ${exampleToken} --data '{"approved":true}'`,
      `jq . answer.json | helmr token complete ${exampleToken} --data -`,
    ]),
  )
    .option("-d, --data <json>", "JSON, @file, or - for stdin (default: null)")
    .action(complete);
  inEnvironment(
    declare(group, "cancel <token>", "Cancel a token: what waits for it hears of it", [
      `helmr token cancel ${exampleToken}`,
    ]),
  ).action(cancel);
}

const pathOf = (id: string): string => `/tokens/${encodeURIComponent(id)}`;

interface CreateOptions extends EnvironmentOptions {
  readonly timeout?: string;
  readonly tag?: string[];
  readonly metadata?: string;
  readonly idempotencyKey?: string;
}

const create = (options: CreateOptions): Promise<void> =>
  withApi(options, async (api) => {
    const body = {
      timeout: options.timeout,
      tags: options.tag,
      metadata: options.metadata === undefined ? undefined : await jsonObject(options.metadata, "--metadata"),
      idempotency_key: options.idempotencyKey,
    };
    const token = await api.send("POST", "/tokens", { body, schema: "createdToken" });
    if (options.json) return writeJson(token);
    await writeFields([
      ...fieldsOf(token),
      ["callback url", token.callback_url],
      ["public access token", token.public_access_token],
    ]);
  });

const list = (
  options: EnvironmentOptions & { status?: string; after?: string; limit?: number },
): Promise<void> =>
  withApi(options, async (api) => {
    const query = { status: options.status, cursor: options.after, limit: options.limit };
    const answer = await api.get("/tokens", { query, schema: "tokenList" });
    if (options.json) return writeJson(answer);
    await writeTable<Token>(
      [
        { header: "TOKEN", value: (row) => row.id },
        { header: "STATUS", value: (row) => row.status },
        { header: "UNTIL", value: (row) => row.timeout_at },
        { header: "TAGS", value: (row) => row.tags?.join(", ") },
      ],
      answer.tokens,
    );
    if (answer.next_cursor !== undefined) note(`hint: there are more: --after ${answer.next_cursor}`);
  });

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const token = await api.get(pathOf(id), { schema: "token" });
    if (options.json) return writeJson(token);
    await writeFields(fieldsOf(token));
  });

const complete = (id: string, options: EnvironmentOptions & { data?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const body = { data: options.data === undefined ? undefined : await jsonValue(options.data, "--data") };
    const answer = await api.send("POST", `${pathOf(id)}/complete`, { body, schema: "tokenCompletion" });
    if (options.json) return writeJson(answer);
    note(
      answer.status === "completed"
        ? `token ${id} is completed`
        : `token ${id} was completed with the same data already`,
    );
  });

const cancel = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const token = await api.send("POST", `${pathOf(id)}/cancel`, { body: {}, schema: "token" });
    if (options.json) return writeJson(token);
    note(`token ${id} is cancelled`);
  });

function fieldsOf(token: Token): [string, string | null | undefined][] {
  const { metadata = {} } = token;
  return [
    ["token", token.id],
    ["status", token.status],
    ["until", token.timeout_at],
    ["tags", token.tags?.join(", ")],
    ["metadata", Object.keys(metadata).length === 0 ? undefined : JSON.stringify(metadata)],
    ["data", token.data === undefined ? undefined : JSON.stringify(token.data)],
  ];
}
