/** From environment variables to what the control plane takes; every problem at once. */
import type { ArtifactKeys } from "@helmr/artifacts";
import {
  type ArtifactStoreConfig,
  artifactKeys,
  artifactStoreConfig,
  readConfig,
  toAddress,
} from "@helmr/process";
import { type TracingConfig, tracingConfig } from "@helmr/telemetry";
import { pino } from "pino";
import type { ControlPlaneConfig } from "../context.ts";
import { createMailer, type MailerConfig } from "../email/mailer.ts";
import { isLoopbackHost } from "../sign-in/loopback.ts";
import { controlVariables, reencryptVariables } from "./variables.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ControlConfig {
  readonly databaseUrl: string;
  readonly listen: ReturnType<typeof toAddress>;
  readonly tracing: TracingConfig;
  readonly metricsListen: ReturnType<typeof toAddress> | undefined;
  readonly shutdownDelayMs: number;
  readonly artifactStore: ArtifactStoreConfig;
  readonly artifactKeys: ArtifactKeys;
  readonly secretKeys: SecretKeys;
  readonly authSecret: Buffer;
  readonly workerBootstrapToken: string | undefined;
  readonly logLevel: string;
  readonly workerLeaseMs: number;
  readonly mailer: MailerConfig;
  readonly controlPlane: ControlPlaneConfig;
}

export interface SecretKeys {
  readonly current: string;
  readonly old: string | undefined;
}

type Values = ReturnType<typeof readConfig<typeof controlVariables>>;

/** @throws {ConfigError} */
export function readControlConfig(environment: Environment): ControlConfig {
  const values = readConfig(controlVariables, environment, problemsBetween);
  return {
    databaseUrl: values.HELMR_DATABASE_URL,
    listen: toAddress(values.HELMR_LISTEN),
    metricsListen: values.HELMR_METRICS_LISTEN,
    shutdownDelayMs: values.HELMR_SHUTDOWN_DELAY,
    artifactStore: artifactStoreConfig(values),
    artifactKeys: artifactKeys(values),
    tracing: tracingConfig(values),
    secretKeys: { current: values.HELMR_SECRET_ENCRYPTION_KEY, old: values.HELMR_SECRET_ENCRYPTION_KEY_OLD },
    authSecret: Buffer.from(values.HELMR_AUTH_SECRET, "base64"),
    workerBootstrapToken: values.HELMR_WORKER_BOOTSTRAP_TOKEN,
    logLevel: values.HELMR_LOG_LEVEL,
    workerLeaseMs: values.HELMR_WORKER_LEASE,
    mailer: mailerConfig(values) ?? { kind: "none" },
    controlPlane: controlPlaneConfig(values),
  };
}

/** @throws {ConfigError} */
export function readReencryptConfig(environment: Environment): {
  databaseUrl: string;
  secretKeys: SecretKeys;
} {
  const values = readConfig(reencryptVariables, environment, sameKeyTwice);
  return {
    databaseUrl: values.HELMR_DATABASE_URL,
    secretKeys: { current: values.HELMR_SECRET_ENCRYPTION_KEY, old: values.HELMR_SECRET_ENCRYPTION_KEY_OLD },
  };
}

function controlPlaneConfig(values: Values): ControlPlaneConfig {
  const github = {
    clientId: values.HELMR_GITHUB_CLIENT_ID,
    clientSecret: values.HELMR_GITHUB_CLIENT_SECRET,
    url: values.HELMR_GITHUB_URL,
    apiUrl: values.HELMR_GITHUB_API_URL,
  };
  const oidc = {
    issuer: values.HELMR_OIDC_ISSUER,
    clientId: values.HELMR_OIDC_CLIENT_ID,
    clientSecret: values.HELMR_OIDC_CLIENT_SECRET,
    displayName: values.HELMR_OIDC_DISPLAY_NAME,
  };
  return withoutUndefined<ControlPlaneConfig>({
    publicUrl: values.HELMR_PUBLIC_URL,
    deploymentMode: values.HELMR_DEPLOYMENT_MODE,
    setupToken: values.HELMR_SETUP_TOKEN,
    operatorToken: values.HELMR_OPERATOR_TOKEN,
    redisUrl: values.HELMR_REDIS_URL,
    scheduleJitterMs: values.HELMR_SCHEDULE_JITTER,
    trustedProxies: values.HELMR_TRUSTED_PROXIES,
    workspaces: {
      idleStopMs: values.HELMR_WORKSPACE_IDLE_STOP,
      lostAfterMs: values.HELMR_WORKSPACE_LOST_AFTER,
      keptSystemVersions: values.HELMR_WORKSPACE_SYSTEM_VERSIONS,
      deleteAfterMs: values.HELMR_WORKSPACE_DELETE_AFTER,
      maxArchiveBytes: values.HELMR_WORKSPACE_UPLOAD_MIB * 2 ** 20,
    },
    magicLinkDebugUrls: values.HELMR_MAGIC_LINK_DEBUG_URLS,
    github: github.clientId === undefined ? undefined : withoutUndefined(github),
    oidc: oidc.issuer === undefined ? undefined : withoutUndefined(oidc),
  });
}

/** Of an object whose keys are optional: a key that is there has a value. */
function withoutUndefined<T>(value: { readonly [Key in keyof T]: T[Key] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as T;
}

/** Undefined while something that the provider needs is missing. */
function mailerConfig(values: Partial<Values>): MailerConfig | undefined {
  const { HELMR_EMAIL_PROVIDER: kind, HELMR_EMAIL_FROM: from } = values;
  const { HELMR_SMTP_URL: url, HELMR_RESEND_API_KEY: apiKey } = values;
  if (kind === "smtp") return url && from ? { kind, url, from } : undefined;
  if (kind === "resend") return apiKey && from ? { kind, apiKey, from } : undefined;
  return kind === undefined ? undefined : { kind };
}

function problemsBetween(values: Partial<Values>): string[] {
  return [
    ...sameKeyTwice(values),
    ...missingTogether(values, ["HELMR_GITHUB_CLIENT_ID", "HELMR_GITHUB_CLIENT_SECRET"]),
    ...missingTogether(values, ["HELMR_OIDC_ISSUER", "HELMR_OIDC_CLIENT_ID", "HELMR_OIDC_CLIENT_SECRET"]),
    ...emailProblems(values),
    ...debugUrlProblems(values),
  ];
}

type KeyValues = Pick<Values, "HELMR_SECRET_ENCRYPTION_KEY" | "HELMR_SECRET_ENCRYPTION_KEY_OLD">;

function sameKeyTwice(values: Partial<KeyValues>): string[] {
  const { HELMR_SECRET_ENCRYPTION_KEY: current, HELMR_SECRET_ENCRYPTION_KEY_OLD: old } = values;
  if (current === undefined || old === undefined) return [];
  const same = Buffer.from(current, "base64").equals(Buffer.from(old, "base64"));
  return same
    ? ["HELMR_SECRET_ENCRYPTION_KEY_OLD: is the same as HELMR_SECRET_ENCRYPTION_KEY; leave it out"]
    : [];
}

function missingTogether(values: Partial<Values>, names: readonly (keyof Values)[]): string[] {
  const missing = names.filter((name) => values[name] === undefined);
  if (missing.length === 0 || missing.length === names.length) return [];
  const present = names.filter((name) => !missing.includes(name));
  return missing.map((name) => `${name}: is required with ${present.join(" and ")}`);
}

function emailProblems(values: Partial<Values>): string[] {
  const provider = values.HELMR_EMAIL_PROVIDER;
  const needed = {
    smtp: ["HELMR_SMTP_URL", "HELMR_EMAIL_FROM"],
    resend: ["HELMR_RESEND_API_KEY", "HELMR_EMAIL_FROM"],
    log: [],
    none: [],
  } as const;
  const missing = needed[provider ?? "none"].filter((name) => values[name] === undefined);
  if (missing.length > 0)
    return missing.map((name) => `${name}: is required with HELMR_EMAIL_PROVIDER=${provider}`);
  const config = mailerConfig(values);
  try {
    if (config !== undefined) void createMailer(config, pino({ level: "silent" })).close();
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

/** Whoever asks for a link would be given it. */
function debugUrlProblems(values: Partial<Values>): string[] {
  const { HELMR_MAGIC_LINK_DEBUG_URLS: on, HELMR_PUBLIC_URL: publicUrl } = values;
  if (on !== true || publicUrl === undefined || isLoopbackHost(new URL(publicUrl).host)) return [];
  return [
    "HELMR_MAGIC_LINK_DEBUG_URLS: is for a public URL of this machine only: it lets everybody sign in as anybody",
  ];
}
