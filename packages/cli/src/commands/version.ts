/** `helmr version`: this command's version, the API's, and Node's. */
import type { Command } from "commander";
import { declare } from "../command.ts";
import { writeFields, writeJson } from "../output.ts";
import { apiVersion, cliVersion } from "../version.ts";

export function register(program: Command): void {
  declare(program, "version", "Show the versions in use", ["helmr version --json"])
    .option("--json", "print JSON")
    .action(async (options: { json?: boolean }) => {
      const versions = { version: cliVersion, api_version: apiVersion, node: process.versions.node };
      if (options.json) return writeJson(versions);
      await writeFields([
        ["helmr", versions.version],
        ["api", versions.api_version],
        ["node", versions.node],
      ]);
    });
}
