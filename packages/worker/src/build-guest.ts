/**
 * The guest in which a deployment's dependencies are installed and its catalog is read.
 *
 *  I1  The project lies on a disk of bounded size that is thrown away; the copy that images are built from is another.
 *  I2  Programs of the project run as user 1000, not as the agent's root.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Catalog, catalog as catalogSchema, withinDepth } from "@helmr/api";
import { agentArgv, agentEnvironment } from "@helmr/guest";
import { type GuestMessage, guestPaths, limits } from "@helmr/guest-protocol";
import {
  createWorkspaceDisk,
  type GuestMount,
  type GuestResources,
  type Isolation,
  mountDisk,
  type RootFilesystem,
  removeTree,
  unmountDisk,
} from "@helmr/isolation";
import { execa } from "execa";
import { z } from "zod";
import type { BuildEvents } from "./build-events.ts";
import type { PackageManager, PreparedSource } from "./build-source.ts";
import type { CacheFolders } from "./caches.ts";
import { BuildFailure, headOf, messageOf } from "./failure.ts";
import type { CommandEnd } from "./guest-command-types.ts";
import { GuestCommands, isCommandMessage } from "./guest-commands.ts";
import { checkedJson, type GuestSession, startGuestSession } from "./guest-session.ts";
import { imageHasShell } from "./image-user.ts";
import { OutputLines, printable } from "./output-tail.ts";
import type { BuildRegistry } from "./sdk-access.ts";

export interface BuildGuestOptions {
  readonly isolation: Isolation;
  readonly root: RootFilesystem;
  /** PATH of the base image. */
  readonly path: string;
  readonly bundleDir: string;
  readonly bunPath: string | undefined;
  readonly scratchDir: string;
  readonly sourceDir: string;
  readonly environmentId: string;
  readonly registry: BuildRegistry;
  readonly caches: CacheFolders;
  readonly loopDevices: boolean;
  readonly networkDeny: readonly string[];
  readonly resources: GuestResources;
  readonly events: BuildEvents;
  readonly signal: AbortSignal;
}

const builder = { uid: 1000, gid: 1000 };
const bunGuestPath = "/opt/helmr-tools/bun";
const cacheGuestPath = "/var/cache/helmr-packages";
const scratchSizeMib = 8 * 1024;
const installTimeoutMs = 20 * 60_000;
/** Longer than the guest's own limit for all modules (5 minutes), which names the module. */
const indexTimeoutMs = 6 * 60_000;
const maxProcesses = 2048;

/** Install and index in one guest; throws BuildFailure. */
export async function installAndIndex(options: BuildGuestOptions, source: PreparedSource): Promise<Catalog> {
  const cacheId = `helmr-${source.manager.name}`;
  return options.caches.with(options.environmentId, [cacheId], builder, (folders) =>
    withProjectDisk(options, async (projectDir) => {
      const cache: GuestMount = {
        destination: cacheGuestPath,
        source: { kind: "bind", path: folders.get(cacheId) ?? "" },
        readOnly: false,
      };
      const session = await startBuildGuest(options, source.manager, [projectMount(projectDir), cache]);
      try {
        const guest = new BuildGuest(session, options);
        await guest.install(source);
        return await guest.index();
      } finally {
        await session.destroy();
      }
    }),
  );
}

function projectMount(path: string): GuestMount {
  return { destination: guestPaths.taskSource, source: { kind: "bind", path }, readOnly: false };
}

/** I1 */
async function withProjectDisk<T>(
  options: BuildGuestOptions,
  work: (projectDir: string) => Promise<T>,
): Promise<T> {
  const disk = join(options.scratchDir, "project.disk");
  const mountPoint = join(options.scratchDir, "project");
  await createWorkspaceDisk({ path: disk, sizeMib: scratchSizeMib, loopDevices: options.loopDevices });
  try {
    await mountDisk(disk, mountPoint);
    const projectDir = join(mountPoint, "source");
    await mkdir(projectDir);
    // cp reads and writes links as links; the source tree was checked when it was unpacked.
    if ((await readdir(options.sourceDir)).length > 0)
      await execa("cp", ["-a", "--", `${options.sourceDir}/.`, projectDir]);
    await execa("chown", ["-R", "-h", `${builder.uid}:${builder.gid}`, projectDir]);
    return await work(projectDir);
  } finally {
    await unmountDisk(mountPoint);
    await removeTree(disk);
  }
}

async function startBuildGuest(
  options: BuildGuestOptions,
  manager: PackageManager,
  mounts: readonly GuestMount[],
): Promise<GuestSession> {
  const { bunPath } = options;
  if (manager.name === "bun" && bunPath === undefined) {
    throw new BuildFailure(
      "dependencies",
      "deployment build: packageManager is bun, but this worker has no bun; install it on the worker's host or use npm",
      { step: "dependencies" },
    );
  }
  const bun: GuestMount[] =
    bunPath === undefined
      ? []
      : [{ destination: bunGuestPath, source: { kind: "bind", path: bunPath }, readOnly: true }];
  try {
    return await startGuestSession(
      options.isolation,
      {
        id: `b-${randomUUID()}`,
        root: options.root,
        argv: agentArgv({ hasShell: await imageHasShell(options.root.path) }),
        env: {
          PATH: options.path,
          ...agentEnvironment({ taskUser: `${builder.uid}:${builder.gid}`, taskHost: false }),
        },
        cwd: "/",
        user: { uid: 0, gid: 0, additionalGids: [] },
        mounts: [
          {
            destination: guestPaths.helmr,
            source: { kind: "bind", path: options.bundleDir },
            readOnly: true,
          },
          ...mounts,
          ...(manager.name === "bun" ? bun : []),
          options.registry.mount,
        ],
        resources: options.resources,
        network: { mode: "internet", deny: options.networkDeny, workerPorts: [options.registry.port] },
        maxProcesses,
      },
      { signal: options.signal },
    );
  } catch (error) {
    options.signal.throwIfAborted();
    throw new BuildFailure(
      "worker",
      `deployment build: the build guest could not be started: ${messageOf(error)}`,
      { retryable: true, cause: error },
    );
  }
}

type IndexResult = Extract<GuestMessage, { type: "index.finished" | "index.failed" }>;
const indexFailure = z.object({ failure_kind: z.string(), problems: z.array(z.string()) });

class BuildGuest {
  readonly #session: GuestSession;
  readonly #options: BuildGuestOptions;
  readonly #commands: GuestCommands;
  #onMessage: (message: GuestMessage) => void = () => undefined;
  #violation: string | undefined;

  constructor(session: GuestSession, options: BuildGuestOptions) {
    this.#session = session;
    this.#options = options;
    this.#commands = new GuestCommands((message) => session.send(message));
    session.listen((message) => this.#receive(message));
  }

  #receive(message: GuestMessage): void {
    if (!isCommandMessage(message)) {
      this.#onMessage(message);
      return;
    }
    this.#violation ??= this.#commands.receive(message);
    if (this.#violation !== undefined) void this.#session.guest.destroy();
  }

  async install(source: PreparedSource): Promise<void> {
    const { events, registry } = this.#options;
    const argv = installCommand(source);
    const step = argv.map((part) => (part === bunGuestPath ? "bun" : part)).join(" ");
    events.step(`dependencies: ${step}`, { phase: "dependencies", step });
    const output = new OutputLines((line) => events.output(line, { phase: "dependencies" }));
    const execId = randomUUID();
    const env = {
      ...registry.env,
      PATH: `/opt/helmr-tools:${this.#options.path}`,
      HOME: "/tmp",
      TERM: "dumb",
      CI: "true",
      NPM_CONFIG_CACHE: `${cacheGuestPath}/npm`,
      BUN_INSTALL_CACHE_DIR: `${cacheGuestPath}/bun`,
    };
    const user = `${builder.uid}:${builder.gid}`;
    const end = await this.#ask<CommandEnd>(installTimeoutMs, step, (resolve) => {
      this.#commands.startExec(
        { id: execId, argv, cwd: guestPaths.taskSource, env, user, stdin: "none" },
        { onOutput: (stream, data) => output.push(stream, data), onExited: resolve },
      );
    });
    if (end.kind === "exited" && end.code === 0) return;
    const why = describeCommandEnd(end);
    const text = output.tail();
    throw new BuildFailure("dependencies", `deployment build: ${step} ${why}${lockfileHint(source, text)}`, {
      step,
      outputTail: text,
    });
  }

  async index(): Promise<Catalog> {
    this.#options.events.step("index: loading helmr.config.ts and the task modules", { phase: "index" });
    const output = new OutputLines((line) => this.#options.events.output(line, { phase: "index" }));
    const answer = await this.#ask<IndexResult>(indexTimeoutMs, "index", (resolve) => {
      this.#onMessage = (message) => {
        if (message.type === "log") output.push(message.stream, message.data);
        if (message.type === "index.finished" || message.type === "index.failed") resolve(message);
      };
      return this.#session.send({ type: "index.start", source_root: guestPaths.taskSource });
    });
    if (answer.type === "index.finished") return parseCatalog(answer.catalog_json);
    const { failure_kind, problems } = indexFailure.parse(answer);
    const listed = problems.map((problem) => `  - ${problem}`).join("\n");
    throw new BuildFailure(
      "index",
      headOf(`deployment build: the project cannot be deployed (${failure_kind}):\n${listed}`, 18_000),
      { step: "index" },
    );
  }

  /** Begin something in the guest and wait for its answer; the guest's end and the time limit are failures. */
  async #ask<Answer>(
    timeoutMs: number,
    step: string,
    begin: (resolve: (answer: Answer) => void) => Promise<void> | void,
  ): Promise<Answer> {
    const { signal } = this.#options;
    const answered = Promise.withResolvers<Answer>();
    const fail = (why: string) =>
      answered.reject(new BuildFailure("dependencies", `deployment build: ${step}: ${why}`, { step }));
    const timer = setTimeout(
      () => fail(`did not end within ${Math.round(timeoutMs / 60_000)} minutes`),
      timeoutMs,
    );
    const onAbort = () => answered.reject(signal.reason);
    signal.addEventListener("abort", onAbort);
    void this.#session.ended.then((end) => {
      const outOfMemory = end.kind === "exit" && end.exit.reason === "out_of_memory";
      fail(
        outOfMemory
          ? `used more than the ${this.#options.resources.memoryMib} MiB of memory a build has`
          : this.#violation === undefined
            ? "the build guest ended unexpectedly"
            : `the build guest broke the protocol: it ${headOf(printable(this.#violation), 500)}`,
      );
    });
    try {
      signal.throwIfAborted();
      await begin(answered.resolve);
      return await answered.promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      this.#onMessage = () => undefined;
    }
  }
}

function describeCommandEnd(end: CommandEnd): string {
  switch (end.kind) {
    case "exited":
      return `exited with code ${end.code}`;
    case "signalled":
      return `was ended by ${end.signal}`;
    case "failed":
      return `could not run: ${end.error}`;
    case "lost":
      return `was lost: ${end.reason}`;
  }
}

function installCommand({ manager, lockfile }: PreparedSource): string[] {
  if (manager.name === "npm") return ["npm", lockfile === undefined ? "install" : "ci", "--no-progress"];
  return [bunGuestPath, "install", ...(lockfile === undefined ? [] : ["--frozen-lockfile"])];
}

function lockfileHint(source: PreparedSource, output: string): string {
  if (source.lockfile === "bun.lockb" && /integrity|checksum/i.test(output)) {
    return " (bun.lockb is bun's old binary format; convert it: bun install --save-text-lockfile)";
  }
  const outdated =
    /package-lock\.json.*(?:not in sync|in sync)|lockfile had changes, but lockfile is frozen/is.test(output);
  return outdated
    ? ` (${source.lockfile ?? "the lockfile"} does not match package.json; run ${source.manager.name} install and deploy again)`
    : "";
}

function parseCatalog(json: string): Catalog {
  const value = checkedJson(json, limits.catalogBytes)?.value;
  // The schema recurses into images that copy from images: a deep text must not overflow the stack.
  const parsed = catalogSchema.safeParse(withinDepth(value) ? value : undefined);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues
    .slice(0, 10)
    .map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new BuildFailure(
    "index",
    `deployment build: the catalog is not valid: ${headOf(problems.join("; "), 4_000)}`,
    { step: "index" },
  );
}
