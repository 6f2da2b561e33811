/** The process of `helmr-control`: one command line. */
import { failOnStart } from "@helmr/process";
import { Command } from "commander";

const { env } = process;

const program = new Command("helmr-control")
  .description("The control plane of Helmr: the HTTP API and what operates it.")
  .addHelpText(
    "after",
    "\nConfiguration is environment variables, HELMR_DATABASE_URL and others: docs/configuration.md lists them.",
  );

program
  .command("serve", { isDefault: true })
  .description("serve the API until SIGINT or SIGTERM")
  .action(() => failOnStart("helmr-control", async () => (await import("./serve.ts")).serve(env)));

program
  .command("migrate")
  .description("bring the database's schema up to this version; before the first start and before an upgrade")
  .option("--dry-run", "say what would be applied; changes nothing")
  .option("--status", "say what is missing or newer; exit code 1 unless this version can serve")
  .action((flags: { dryRun?: boolean; status?: boolean }) =>
    failOnStart("helmr-control", async () =>
      (await import("./migrate-command.ts")).migrateDatabase(env, flags),
    ),
  );

program
  .command("secrets")
  .description("secrets of all environments")
  .command("reencrypt")
  .description("put every secret under HELMR_SECRET_ENCRYPTION_KEY; run until remaining_old_key_count is 0")
  .option("--json", "print {reencrypted, remaining_old_key_count}")
  .action((options: { json?: boolean }) =>
    failOnStart("helmr-control", async () => (await import("./commands.ts")).reencrypt(env, options)),
  );

program
  .command("artifacts")
  .description("sources, workspaces and image layers in the object store")
  .command("reencrypt")
  .description(
    "put every artifact under HELMR_ARTIFACT_ENCRYPTION_KEY; run until remaining_old_key_count is 0",
  )
  .option("--json", "print {reencrypted, current_key_count, remaining_old_key_count, remaining_by_key}")
  .action((options: { json?: boolean }) =>
    failOnStart("helmr-control", async () =>
      (await import("./reencrypt-artifacts.ts")).reencryptArtifacts(env, options),
    ),
  );

await program.parseAsync();
