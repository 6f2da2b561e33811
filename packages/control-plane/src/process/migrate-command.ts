/** `helmr-control migrate`: the one step that changes the schema; never part of a start. */
import { readConfig } from "@helmr/process";
import { type Database, migrate, openDatabase, readSchemaState, schemaProblem } from "@helmr/store";
import type { Environment } from "./control-config.ts";
import { databaseVariables } from "./variables.ts";

/** One that waits for others that migrate, then for locks of the tables. */
const migrateTimeoutMs = 15 * 60_000;

export interface MigrateFlags {
  readonly dryRun?: boolean;
  readonly status?: boolean;
}

export async function migrateDatabase(environment: Environment, flags: MigrateFlags): Promise<void> {
  const { HELMR_DATABASE_URL: url } = readConfig(databaseVariables, environment);
  const db = openDatabase({
    url,
    maxConnections: 1,
    statementTimeoutMs: migrateTimeoutMs,
    applicationName: "helmr-control migrate",
  });
  try {
    await (flags.status === true ? printStatus(db) : apply(db, flags.dryRun === true));
  } finally {
    await db.close();
  }
}

async function apply(db: Database, dryRun: boolean): Promise<void> {
  const { applied } = await migrate(db, {
    dryRun,
    onRetry: (name, reason) => say(`${name}: ${reason}; it is tried again`),
  });
  for (const name of applied) say(`${dryRun ? "would apply" : "applied"} ${name}`);
  if (applied.length === 0) say("the schema is up to date");
  else if (!dryRun) say("done");
}

/** Exit code 1 unless this version can serve. */
async function printStatus(db: Database): Promise<void> {
  const state = await readSchemaState(db);
  for (const name of state.missing) say(`missing  ${name}`);
  for (const name of state.changed) say(`changed  ${name}`);
  for (const { name, compatible } of state.newer) {
    say(`newer    ${name}  ${compatible ? "this version goes on with it" : "this version cannot serve"}`);
  }
  const problem = schemaProblem(state);
  say(typeof problem === "string" ? problem : "this version can serve");
  if (typeof problem === "string") process.exitCode = 1;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
