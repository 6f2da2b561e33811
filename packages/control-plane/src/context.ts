/** What handlers work with: made once, passed explicitly. */
import type { ArtifactStore } from "@helmr/artifacts";
import type { ManifestCache } from "@helmr/artifacts/versions";
import type { LiveBus } from "@helmr/coordination";
import type { Database, ScheduleTiming, SecretCipher } from "@helmr/store";
import type { ControlMetrics, Tracing } from "@helmr/telemetry";
import type { Logger } from "pino";
import type { Authenticator } from "./auth/authenticator.ts";
import type { Mailer } from "./email/mailer.ts";
import type { Outbox } from "./email/outbox.ts";
import type { StreamHub } from "./http/stream-hub.ts";
import type { Places } from "./limits/places.ts";
import type { RateLimiter } from "./limits/rate-limiter.ts";
import type { RateLimits } from "./limits/rate-limits.ts";
import type { TokenSecrets } from "./tokens.ts";
import type { WorkerTimings } from "./worker/index.ts";
import type { WorkspaceSettings } from "./workspace-settings.ts";

export interface ControlPlaneConfig {
  /** Where clients reach this server; for links and same-origin checks. */
  readonly publicUrl: string;
  /** Open event and log streams of this process; further ones get 503. Default 2000. */
  readonly maxStreams?: number;
  /** The same of one API key or user; further ones get 429. Default 100. */
  readonly maxStreamsPerActor?: number;
  /** `redis://…`: rate limits are counted there, for all processes together. Default: in memory, each for itself. */
  readonly redisUrl?: string;
  /** Fires of schedules are spread over this long. Default 30,000. */
  readonly scheduleJitterMs?: number;
  /** Instead of the limits of limits/rate-limits.ts, by kind. */
  readonly rateLimits?: Partial<RateLimits>;
  /** Default `self-hosted`: one organization, created with the setup token. `managed-cloud`: users create their own. */
  readonly deploymentMode?: DeploymentMode;
  /** Creates the first organization of a self-hosted installation; without it none can be created over HTTP. */
  readonly setupToken?: string;
  /** Whoever has it operates the installation: worker groups and workers. 32 characters or more. */
  readonly operatorToken?: string;
  /** Answers of magic-link/start carry the link: for tests and development only. */
  readonly magicLinkDebugUrls?: boolean;
  readonly github?: GitHubConfig;
  readonly oidc?: OidcConfig;
  /** The user whom requests from this machine may sign in as without more: `helmr dev` only. */
  readonly localOwnerId?: string;
  /** Addresses or networks whose X-Forwarded-For is believed. Default: none. */
  readonly trustedProxies?: readonly string[];
  readonly workspaces?: Partial<WorkspaceSettings>;
}

export type DeploymentMode = "self-hosted" | "managed-cloud";

export interface GitHubConfig {
  readonly clientId: string;
  readonly clientSecret: string;
  /** Of GitHub Enterprise Server. Defaults: `https://github.com`; `https://api.github.com`, or `<url>/api/v3` of another. */
  readonly url?: string;
  readonly apiUrl?: string;
}

/** Any OpenID Connect provider with discovery. */
export interface OidcConfig {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** On the sign-in button. Default: the issuer's host. */
  readonly displayName?: string;
}

export interface ControlPlaneOptions {
  readonly db: Database;
  readonly bus: LiveBus;
  readonly artifacts: ArtifactStore;
  readonly secretCipher: SecretCipher;
  /** 32 bytes or more: the secrets of tokens are derived from it. */
  readonly authSecret: Buffer;
  readonly config: ControlPlaneConfig;
  readonly logger: Logger;
  /** Default: no e-mail. Closed by whoever made it, after the control plane. */
  readonly mailer?: Mailer;
  /** Leases of workers; tests shorten them. */
  readonly workerTimings?: Partial<WorkerTimings>;
  /** Default: nobody reads them. */
  readonly metrics?: ControlMetrics;
  /** Default: none. */
  readonly tracing?: Tracing;
}

export interface Context extends ControlPlaneOptions {
  readonly metrics: ControlMetrics;
  readonly tracing: Tracing;
  readonly mailer: Mailer;
  /** Sends in the background what nobody waits for. */
  readonly outbox: Outbox;
  readonly tokenSecrets: TokenSecrets;
  readonly streams: StreamHub;
  /** Trees of saved versions, decoded. */
  readonly manifests: ManifestCache;
  /** What is under way of each, so that they do not take all memory and processors. */
  readonly fileReads: Places;
  readonly diffs: Places;
  readonly downloads: Places;
  readonly uploads: Places;
  readonly authenticator: Authenticator;
  readonly limiter: RateLimiter;
  /** Of the browser's session cookie. */
  readonly cookieName: string;
  /** Aborts when the server closes: ends streams and waits whose clients go on elsewhere. */
  readonly closing: AbortSignal;
  /** Aborts a while later: ends what would otherwise have come to its end by itself. */
  readonly ending: AbortSignal;
}

export function scheduleTiming(config: ControlPlaneConfig): ScheduleTiming {
  return { jitterMs: config.scheduleJitterMs ?? 30_000 };
}
