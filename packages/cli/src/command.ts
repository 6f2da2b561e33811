/** How commands are declared: every one has a summary and an example, and the ones that talk to a server share options. */
import { type Command, Option } from "commander";
import { durationMs } from "./values.ts";

/** Declare a subcommand. `examples` are command lines without the prompt. */
export function declare(
  parent: Command,
  signature: string,
  summary: string,
  examples: readonly string[],
): Command {
  const lines = examples.map((example) => `  $ ${example}`).join("\n");
  return parent
    .command(signature)
    .summary(summary)
    .description(`${summary}.`)
    .addHelpText("after", `\nExample${examples.length === 1 ? "" : "s"}:\n${lines}`);
}

/** `--api-url` and `--json`. */
export function connected(command: Command): Command {
  return command
    .option("-a, --api-url <url>", "server to talk to (default: HELMR_API_URL, else the saved one)")
    .option("--json", "print JSON as the API sends it");
}

/** As `connected`, for a command about one environment: `--project` and `--env`. */
export function inEnvironment(command: Command): Command {
  return connected(command)
    .option(
      "--project <project>",
      "slug or id, with a login (default: HELMR_PROJECT, else the saved one); an API key names its own",
    )
    .option(
      "--env <environment>",
      "slug or id, as --project (default: HELMR_ENVIRONMENT, else the saved one)",
    );
}

/** `--timeout` in milliseconds, with a default that the help shows as a person writes it. */
export function timeoutOption(description: string, byDefault: string): Option {
  return new Option("--timeout <duration>", description)
    .argParser(durationMs)
    .default(durationMs(byDefault), byDefault);
}
