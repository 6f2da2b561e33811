/**
 * `helmr deploy`: pack, upload, watch the build, promote (contract 9).
 *
 * Progress is on stderr; stdout gets the deployment with `--json`, else the table of its tasks.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEnv } from "node:util";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { Deployment, Event } from "../client/wire.ts";
import { declare, inEnvironment, timeoutOption } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { checkSize, writeArchive } from "../deploy/pack.ts";
import { type Project, readProject } from "../deploy/project.ts";
import { readSourceTree } from "../deploy/source-tree.ts";
import { upload } from "../deploy/upload.ts";
import { watchBuild } from "../deploy/watch.ts";
import { exitCodes, messageOf, usageError } from "../errors.ts";
import { note, paint, plain, plainLines, writeJson } from "../output.ts";
import { writeTasks } from "./task.ts";

interface DeployOptions extends EnvironmentOptions {
  readonly detach?: boolean;
  readonly skipPromotion?: boolean;
  readonly envFile?: string;
  readonly timeout: number;
}

export function register(program: Command): void {
  inEnvironment(
    declare(program, "deploy [dir]", "Upload a project, build it and make it the current deployment", [
      "helmr deploy",
      "helmr deploy my-project --skip-promotion --json",
      "helmr deploy --env-file .env.production",
    ]),
  )
    .option("-d, --detach", "return after the upload; nothing is promoted")
    .option("--skip-promotion", "build only; `helmr deployment promote` makes it current later")
    .option("--env-file <file>", "read HELMR_API_URL and HELMR_API_KEY from this file; it is never uploaded")
    .addOption(timeoutOption("give up waiting for the build after this long with exit code 124", "20m"))
    .action(deploy);
}

async function deploy(dir: string | undefined, options: DeployOptions): Promise<void> {
  if (options.envFile !== undefined) await loadEnvFile(options.envFile);
  let id: string | undefined;
  let read: Promise<Project> | undefined;
  const readOnce = () => {
    read ??= readProject(dir ?? ".");
    return read;
  };
  await withApi(
    options,
    async (api) => {
      const created = await packAndUpload(api, await readOnce());
      id = created.id;
      if (options.detach) return showDetached(created, options);
      const { deployment, last } = await watchBuild(api, id, {
        timeoutMs: options.timeout,
        onEvent: showProgress,
      });
      if (deployment.status !== "deployed") return showFailure(deployment, last, options);
      await finish(api, deployment, options);
    },
    () =>
      id &&
      `the build goes on; \`helmr deployment events ${id} --follow\` shows it, \`helmr deployment promote ${id}\` makes it current when it is done`,
    async () => (await readOnce()).project,
  );
}

/** What the environment has already is kept, as with `node --env-file`. */
async function loadEnvFile(file: string): Promise<void> {
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw usageError(`cannot read ${file}: ${messageOf(error)}`);
  });
  for (const [name, value] of Object.entries(parseEnv(text))) process.env[name] ??= value;
}

async function packAndUpload(api: ApiClient, project: Project): Promise<Deployment> {
  const { entries, skipped } = await readSourceTree(project.dir, project.ignorePatterns);
  for (const path of skipped) note(`${plain(path)} is neither a file, a folder nor a link: left out`);
  const { maxUploadBytes } = await import("@helmr/api");
  checkSize(entries, maxUploadBytes);
  const staging = await makeStaging();
  try {
    const file = join(staging, "deployment-source.tar");
    const archive = await writeArchive(project.dir, entries, file, api.signal);
    const files = entries.filter((entry) => entry.kind !== "directory").length;
    note(`uploading ${files} files, ${sizeText(archive.sizeBytes)}, to ${api.url}`);
    return await upload(api, file, archive);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function makeStaging(): Promise<string> {
  return await mkdtemp(join(tmpdir(), "helmr-deploy-")).catch((error: unknown) => {
    throw usageError(
      `no temporary folder can be made in ${tmpdir()}: ${messageOf(error)}`,
      "set TMPDIR to a folder that is there and can be written to, or unset it",
    );
  });
}

function showProgress(event: Event): void {
  const line = plainLines(event.message);
  note(event.severity === "error" ? paint("red", line, process.stderr) : line);
}

async function showDetached(deployment: Deployment, options: DeployOptions): Promise<void> {
  if (options.json) return writeJson(deployment);
  note(`deployment ${deployment.version} (${deployment.id}) is ${deployment.status}`);
  note(
    `hint: \`helmr deployment events ${deployment.id} --follow\`, then \`helmr deployment promote ${deployment.id}\``,
  );
}

/** The failing step and the tail of its output, where the event or the deployment carries them. */
async function showFailure(
  deployment: Deployment,
  last: Event | undefined,
  options: DeployOptions,
): Promise<void> {
  process.exitCode = exitCodes.failed;
  if (options.json) await writeJson(deployment);
  const detail: Record<string, unknown> = { ...last?.attributes, ...deployment.error };
  const step = typeof detail.step === "string" ? ` at ${plain(detail.step)}` : "";
  note(`${paint("red", "error:", process.stderr)} deployment ${deployment.version} failed${step}`);
  const message = typeof detail.message === "string" ? detail.message : "";
  // The last event has been shown already; what it said need not be said twice.
  if (message !== "" && !last?.message.includes(message)) note(plainLines(message));
  const tail = typeof detail.output_tail === "string" ? detail.output_tail.trimEnd() : "";
  if (tail !== "" && !message.includes(tail))
    note(
      tail
        .split("\n")
        .map((line) => `  | ${plain(line)}`)
        .join("\n"),
    );
  note("hint: the current deployment is unchanged; mend the source and deploy again");
}

async function finish(api: ApiClient, deployment: Deployment, options: DeployOptions): Promise<void> {
  const { id, version } = deployment;
  if (!options.skipPromotion) {
    await api.send("POST", `/deployments/${encodeURIComponent(id)}/promote`, {
      body: { reason: "deploy" },
      schema: "deployment",
    });
  }
  if (options.json) return writeJson(deployment);
  if (options.skipPromotion)
    note(`${version} is built, not current\nhint: \`helmr deployment promote ${version}\``);
  else note(`${paint("green", version, process.stderr)} is current`);
  await writeTasks(deployment.tasks ?? []);
}

function sizeText(bytes: number): string {
  return bytes < 1024 * 1024 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
