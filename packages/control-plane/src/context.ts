/** What handlers work with: made once, passed explicitly. */
import type { ArtifactStore } from "@helmr/artifacts";
import type { LiveBus } from "@helmr/coordination";
import type { Database, SecretCipher } from "@helmr/store";
import type { Logger } from "pino";
import type { StreamHub } from "./http/stream-hub.ts";
import type { WorkerTimings } from "./worker/index.ts";

export interface ControlPlaneConfig {
  /** Where clients reach this server; for links and same-origin checks. */
  readonly publicUrl: string;
  /** Open event and log streams of this process; further ones get 503. Default 2000. */
  readonly maxStreams?: number;
}

export interface ControlPlaneOptions {
  readonly db: Database;
  readonly bus: LiveBus;
  readonly artifacts: ArtifactStore;
  readonly secretCipher: SecretCipher;
  readonly config: ControlPlaneConfig;
  readonly logger: Logger;
  /** Leases of workers; tests shorten them. */
  readonly workerTimings?: Partial<WorkerTimings>;
}

export interface Context extends ControlPlaneOptions {
  readonly streams: StreamHub;
  /** Aborts when the server closes: ends every wait of a handler. */
  readonly closing: AbortSignal;
}

/** Where queued runs and builds are routed until worker groups can be chosen. */
export const defaultWorkTopic = "work:default";
