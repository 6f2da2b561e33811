/** `helmr host`: the servers this machine knows. Nothing here talks to one. */
import type { Command } from "commander";
import { declare } from "../command.ts";
import { normalizeUrl } from "../context.ts";
import { forgetCredentials, type HostCredential, readCredentials, saveHost } from "../credentials.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, writeJson, writeTable } from "../output.ts";

interface Shown {
  readonly url: string;
  readonly is_default: boolean;
  readonly has_login: boolean;
  readonly has_api_key: boolean;
  readonly project?: string;
  readonly environment?: string;
}

interface JsonOption {
  readonly json?: boolean;
}

export function register(program: Command): void {
  const group = declare(program, "host", "Choose among the servers that are saved on this machine", [
    "helmr host list",
  ]);
  declare(group, "list", "List the saved servers", ["helmr host list"])
    .option("--json", "print {hosts} as JSON, without credentials")
    .action(list);
  declare(group, "use <url>", "Make a saved server the default one, and remember what commands take there", [
    "helmr host use https://helmr.example.com",
    "helmr host use https://helmr.example.com --project web --env staging",
  ])
    .option("--project <project>", "the project where none is named")
    .option("--env <environment>", "the environment where none is named")
    .option("--json", "print the server as JSON, without credentials")
    .action(use);
  declare(
    group,
    "remove <url>",
    "Forget a server with its login and API key; `helmr logout` also ends the session",
    ["helmr host remove https://helmr.example.com"],
  )
    .option("--json", "print {url, removed} as JSON")
    .action(remove);
}

async function list(options: JsonOption): Promise<void> {
  const { hosts, default_url: byDefault } = await readCredentials();
  const shown = Object.entries(hosts).map(([url, host]) => show(url, host, byDefault));
  if (options.json) return writeJson({ hosts: shown });
  await writeTable<Shown>(
    [
      { header: "HOST", value: (row) => row.url },
      { header: "DEFAULT", value: (row) => (row.is_default ? "yes" : "") },
      {
        header: "CREDENTIALS",
        value: (row) =>
          [...(row.has_login ? ["login"] : []), ...(row.has_api_key ? ["API key"] : [])].join(", "),
      },
      { header: "PROJECT", value: (row) => row.project },
      { header: "ENVIRONMENT", value: (row) => row.environment },
    ],
    shown,
  );
}

async function use(
  given: string,
  options: JsonOption & { readonly project?: string; readonly env?: string },
): Promise<void> {
  const { url, host } = await known(given);
  const chosen: HostCredential = {
    ...host,
    ...(options.project === undefined ? {} : { project: options.project }),
    ...(options.env === undefined ? {} : { environment: options.env }),
  };
  await saveHost(url, chosen);
  if (options.json) return writeJson(show(url, chosen, url));
  note(`${url} is the default now`);
}

async function remove(given: string, options: JsonOption): Promise<void> {
  const { url, host } = await known(given);
  await forgetCredentials(url, ["api_key", "session_token"]);
  if (options.json) return writeJson({ url, removed: true });
  note(`${url} is forgotten`);
  if (host.session_token !== undefined)
    note(
      "hint: the session itself goes on at the server until 30 days after its last use; `helmr logout` ends it",
    );
}

async function known(given: string): Promise<{ url: string; host: HostCredential }> {
  const url = normalizeUrl(given);
  const host = (await readCredentials()).hosts[url];
  if (host !== undefined) return { url, host };
  throw new CliError(`${url} is not saved`, {
    exitCode: exitCodes.notFound,
    hint: `\`helmr host list\` shows what is; \`helmr login --api-url ${url}\` signs in there`,
  });
}

function show(url: string, host: HostCredential, byDefault: string | undefined): Shown {
  return {
    url,
    is_default: url === byDefault,
    has_login: host.session_token !== undefined,
    has_api_key: host.api_key !== undefined,
    ...(host.project === undefined ? {} : { project: host.project }),
    ...(host.environment === undefined ? {} : { environment: host.environment }),
  };
}
