/** Whether an image has a `node` that runs tasks: asked of the image itself, in a guest. */
import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Isolation, IsolationError, type RootFilesystem } from "@helmr/isolation";
import semver from "semver";
import { BuildFailure, messageOf } from "../failure.ts";
import { runGuestProcess } from "../guest-process.ts";
import { keyOf } from "./layer-key.ts";

/** The first version that runs TypeScript without a flag (contract: 22.18). */
export const oldestNode = "22.18.0";
const timeoutMs = 60_000;
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The image's node version; throws BuildFailure when there is none or it is too old. Remembered per image in `dir`. */
export async function checkNode(
  isolation: Isolation,
  image: {
    readonly root: RootFilesystem;
    readonly env: Readonly<Record<string, string>>;
    readonly label: string;
  },
  dir: string,
  signal: AbortSignal,
): Promise<string> {
  const path = image.env.PATH ?? defaultPath;
  const record = join(dir, keyOf([image.root.digest, path]).slice(0, 32));
  const known = await readFile(record, "utf8").catch(() => undefined);
  const version = known ?? (await askNode(isolation, image, path, signal));
  const parsed = semver.parse(version.trim());
  if (parsed === null || semver.lt(parsed, oldestNode)) {
    throw failure(
      image.label,
      `its node is ${version.trim().slice(0, 40) || "unknown"}, tasks need ${oldestNode} or newer; use a newer base image`,
    );
  }
  await mkdir(dir, { recursive: true });
  await writeFile(record, version);
  return parsed.version;
}

async function askNode(
  isolation: Isolation,
  image: { readonly root: RootFilesystem; readonly label: string },
  path: string,
  signal: AbortSignal,
): Promise<string> {
  let output = "";
  const missing = `there is no node on its PATH (${path}); tasks need node ${oldestNode} or newer: use a base image such as node:24-bookworm-slim, or install it in a run step`;
  try {
    const end = await runGuestProcess({
      isolation,
      spec: {
        id: `n-${randomUUID()}`,
        root: image.root,
        argv: ["node", "--version"],
        env: { PATH: path },
        cwd: "/",
        user: { uid: 0, gid: 0, additionalGids: [] },
        mounts: [],
        resources: { cpu: 1, memoryMib: 512, diskMib: 64 },
        network: { mode: "none" },
        maxProcesses: 64,
      },
      timeoutMs,
      signal,
      onOutput: (stream, data) => {
        if (stream === "stdout") output = (output + Buffer.from(data).toString("utf8")).slice(0, 200);
      },
    });
    if (end.reason === "exited" && end.code === 0) return output;
    throw failure(
      image.label,
      end.reason === "exited" && (end.code === 127 || end.code === 128)
        ? missing
        : `its node does not run (${end.reason})`,
    );
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof BuildFailure) throw error;
    const absent = error instanceof IsolationError && error.layer === "program";
    throw failure(image.label, absent ? missing : `its node could not be tried: ${messageOf(error)}`);
  }
}

function failure(label: string, why: string): BuildFailure {
  return new BuildFailure("image_preparation", `image preparation: ${label}: ${why}`, {
    step: `${label}: check node`,
  });
}
