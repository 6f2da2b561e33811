/** A program: the control plane, with leases of the given length, on a port that it says. `helmr-control` has no such setting. */
import { createFolderStore } from "@helmr/artifacts";
import { createControlPlane } from "@helmr/control-plane";
import { createMemoryBus } from "@helmr/coordination";
import { createSecretCipher, openDatabase } from "@helmr/store";
import pino from "pino";
import { artifactKeys } from "./artifact-keys.ts";

export interface ControlPlaneSettings {
  readonly databaseUrl: string;
  readonly artifactsDir: string;
  readonly leaseDurationMs: number;
}

const [settings = ""] = process.argv.slice(2);
const { databaseUrl, artifactsDir, leaseDurationMs } = JSON.parse(settings) as ControlPlaneSettings;
const controlPlane = createControlPlane({
  db: openDatabase({ url: databaseUrl }),
  bus: createMemoryBus(),
  artifacts: createFolderStore(artifactsDir, { keys: artifactKeys }),
  secretCipher: createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") }),
  authSecret: Buffer.alloc(32, 9),
  config: { publicUrl: "http://127.0.0.1" },
  workerTimings: { leaseDurationMs, heartbeatIntervalMs: 100, heartbeatHoldMs: 500 },
  logger: pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }, pino.destination(2)),
});
console.log(await controlPlane.listen({ host: "127.0.0.1", port: 0 }));
