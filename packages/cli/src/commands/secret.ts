/**
 * `helmr secret`: names and values that tasks declare. A value comes from a file, a pipe or a hidden prompt, never from the
 * command line, where other users' `ps` and the shell's history would keep it.
 */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import type { Secret } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { CliError, exitCodes, messageOf, usageError } from "../errors.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";
import { readStdin } from "../values.ts";

const examplesOfSet = [
  "helmr secret set OPENAI_API_KEY",
  "pass show openai | helmr secret set OPENAI_API_KEY",
  "helmr secret set deploy-key --from-file ./id_ed25519",
];

export function register(program: Command): void {
  const group = declare(program, "secret", "Manage the secrets that tasks declare", ["helmr secret list"]);
  inEnvironment(declare(group, "list", "List the secrets' names", ["helmr secret list"])).action(list);
  inEnvironment(
    declare(group, "get <name>", "Show when a secret was set; values are never shown", [
      "helmr secret get OPENAI_API_KEY",
    ]),
  ).action(get);
  inEnvironment(
    declare(
      group,
      "set <name>",
      "Create or replace a secret; the value is asked for, piped in, or a file's",
      examplesOfSet,
    ),
  )
    .option(
      "--from-file <file>",
      "take the file's bytes as they are (UTF-8); a piped value loses one final line break",
    )
    .action(set);
  inEnvironment(
    declare(group, "delete <name>", "Delete a secret", ["helmr secret delete OPENAI_API_KEY"]),
  ).action(remove);
}

const pathOf = (name: string): string => `/secrets/${encodeURIComponent(name)}`;

const list = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/secrets", { schema: "secretList" });
    if (options.json) return writeJson(answer);
    await writeTable<Secret>(
      [
        { header: "NAME", value: (row) => row.name },
        { header: "UPDATED", value: (row) => row.updated_at },
      ],
      answer.secrets,
    );
  });

const get = (name: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const secret = await api.get(pathOf(name), { schema: "secret" });
    if (options.json) return writeJson(secret);
    await writeFields([
      ["name", secret.name],
      ["created", secret.created_at],
      ["updated", secret.updated_at],
    ]);
  });

const set = (name: string, options: EnvironmentOptions & { fromFile?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const value = await readValue(name, options.fromFile);
    const secret = await api.send("PUT", pathOf(name), { body: { value }, schema: "secret" });
    if (options.json) return writeJson(secret);
    note(`${secret.name} is set`);
  });

const remove = (name: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    await api.remove(pathOf(name));
    if (options.json) return writeJson({ name, deleted: true });
    note(`${name} is deleted`);
  });

async function readValue(name: string, file: string | undefined): Promise<string> {
  if (file !== undefined) {
    const bytes = await readFile(file).catch((error: unknown) => {
      throw usageError(`cannot read ${file}: ${messageOf(error)}`);
    });
    return decode(bytes, file);
  }
  if (!process.stdin.isTTY) {
    const value = (await readStdin()).replace(/\r?\n$/, "");
    if (value === "")
      throw usageError("no value came on stdin", `pipe it in, or use --from-file: ${examplesOfSet[1]}`);
    return value;
  }
  const { isCancel, password } = await import("@clack/prompts");
  const value = await password({
    message: `Value of ${name}`,
    validate: (text) => (text ? undefined : "Enter a value"),
    output: process.stderr,
  });
  if (isCancel(value))
    throw new CliError("interrupted, nothing was set", { exitCode: exitCodes.interrupted });
  return value;
}

function decode(bytes: Buffer, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw usageError(`${file} is not UTF-8 text`, `encode it first: base64 ${file} | helmr secret set NAME`);
  }
}
