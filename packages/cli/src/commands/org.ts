/** `helmr org`: the organizations of the signed-in person, and in which one this login acts. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { OwnOrganization } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, withLogin } from "../context.ts";
import { CliError, exitCodes, messageOf, usageError } from "../errors.ts";
import { findOrganization } from "../names.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";

interface CreateOptions extends ConnectionOptions {
  readonly name?: string;
  readonly setupTokenFile?: string;
}

export function register(program: Command): void {
  const group = declare(program, "org", "Manage your organizations", ["helmr org list"]);
  connected(
    declare(group, "create <slug>", "Create an organization; you become its owner", [
      'helmr org create acme --name "Acme Ltd"',
      "helmr org create acme --setup-token-file ./setup-token",
    ]),
  )
    .option("--name <name>", "shown to people (default: the slug)")
    .option(
      "--setup-token-file <file>",
      "holds the token that a self-hosted installation asks for (default: HELMR_SETUP_TOKEN, else it is asked for)",
    )
    .action(create);
  connected(declare(group, "list", "List the organizations you are in", ["helmr org list"])).action(list);
  connected(
    declare(group, "select <organization>", "Let this login act in another organization, by slug or id", [
      "helmr org select acme",
    ]),
  ).action(select);
}

const create = (slug: string, options: CreateOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const setupToken = await readSetupToken(api, options);
    const body = {
      slug,
      name: options.name ?? slug,
      ...(setupToken === undefined ? {} : { setup_token: setupToken }),
    };
    const organization = await api.send("POST", "/organizations", { body, schema: "organization" });
    if (options.json) return writeJson(organization);
    note(`the organization ${organization.slug} is created, and you are its owner`);
    await writeFields([
      ["organization", organization.slug],
      ["name", organization.name],
      ["id", organization.id],
    ]);
  });

/** Never from the command line, where other users' `ps` and the shell's history would keep it. */
async function readSetupToken(api: ApiClient, options: CreateOptions): Promise<string | undefined> {
  if (options.setupTokenFile !== undefined) {
    const text = await readFile(options.setupTokenFile, "utf8").catch((error: unknown) => {
      throw usageError(`cannot read ${options.setupTokenFile}: ${messageOf(error)}`);
    });
    return text.trim();
  }
  if (process.env.HELMR_SETUP_TOKEN) return process.env.HELMR_SETUP_TOKEN;
  const me = await api.get("/me", { schema: "me" });
  if (!me.setup_token_required) return undefined;
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw usageError(
      "the first organization needs the setup token",
      "set HELMR_SETUP_TOKEN, or use --setup-token-file",
    );
  const { isCancel, password } = await import("@clack/prompts");
  const value = await password({
    message: "Setup token of this installation",
    validate: (text) => (text ? undefined : "Enter the token"),
    output: process.stderr,
  });
  if (isCancel(value))
    throw new CliError("interrupted, nothing was created", { exitCode: exitCodes.interrupted });
  return value;
}

const list = (options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const answer = await api.get("/organizations", { schema: "ownOrganizationList" });
    if (options.json) return writeJson(answer);
    await writeTable<OwnOrganization>(
      [
        { header: "ORGANIZATION", value: (row) => row.slug },
        { header: "NAME", value: (row) => row.name },
        { header: "ROLE", value: (row) => row.role },
        { header: "SELECTED", value: (row) => (row.selected ? "yes" : "") },
        { header: "ID", value: (row) => row.id },
      ],
      answer.organizations,
    );
  });

const select = (name: string, options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const { id } = await findOrganization(api, name);
    const path = `/organizations/${encodeURIComponent(id)}/select`;
    const organization = await api.send("POST", path, { body: {}, schema: "organization" });
    if (options.json) return writeJson(organization);
    note(`this login acts in ${organization.slug} now`);
  });
