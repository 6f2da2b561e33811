/** A real S3 server (versitygw) over a folder of the test's own, which can be killed, held and started anew on its port. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vi } from "vitest";
import { ensureVersitygw } from "../../dev/src/runtime/index.ts";

export interface TestS3 {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly bucket: string;
  /** The variables of a process that uses it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where the bucket's objects lie as files, under their keys. */
  readonly bucketFolder: string;
  /** Hold the process: it keeps its connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Ends the server, as kill -9 does; `start` brings it back with what it has stored. */
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

const bucket = "helmr-test";
const credentials = { accessKeyId: "test-access", secretAccessKey: "test-secret-key" };

export async function startS3(): Promise<TestS3> {
  const program = await ensureVersitygw({ log: (line) => console.error(`helmr: ${line}`) });
  const folder = await mkdtemp(join(tmpdir(), "helmr-s3-"));
  const bucketFolder = join(folder, "buckets", bucket);
  const meta = join(folder, "meta");
  await Promise.all([mkdir(bucketFolder, { recursive: true }), mkdir(meta)]);
  let child: ChildProcess | undefined;
  const kill = async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  const listen = async (port: number): Promise<void> => {
    const started = spawn(
      program,
      [
        "--quiet",
        "--keep-alive",
        "--port",
        `127.0.0.1:${port}`,
        "posix",
        "--sidecar",
        meta,
        join(folder, "buckets"),
      ],
      {
        env: { ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    child = started;
    let said = "";
    started.stderr.on("data", (data) => {
      said = `${said}${data}`.slice(-2000);
    });
    await vi.waitUntil(
      () => {
        if (started.exitCode !== null) throw new Error(`versitygw ended: ${said}`);
        return fetch(`http://127.0.0.1:${port}/`).then(
          async (answer) => {
            await answer.arrayBuffer();
            return true;
          },
          () => false,
        );
      },
      { timeout: 30_000, interval: 20 },
    );
  };
  const port = await startedOnFreePort(listen);
  const endpoint = `http://127.0.0.1:${port}`;
  return {
    endpoint,
    credentials,
    bucket,
    environment: {
      HELMR_CAS_URI: `s3://${bucket}/installation`,
      HELMR_S3_ENDPOINT: endpoint,
      HELMR_S3_FORCE_PATH_STYLE: "true",
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    bucketFolder,
    pause: () => child?.kill("SIGSTOP"),
    resume: () => child?.kill("SIGCONT"),
    kill,
    start: () => listen(port),
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A port that was free may be taken by another by the time the server listens: then the next is tried. */
async function startedOnFreePort(listen: (port: number) => Promise<void>): Promise<number> {
  for (let left = 5; ; left -= 1) {
    const port = await freePort();
    try {
      await listen(port);
      return port;
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}
