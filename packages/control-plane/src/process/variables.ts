/** The environment variables of `helmr-control`: one schema each. docs/configuration.md is made from it. */
import { isIP } from "node:net";
import {
  artifactKeyVariables,
  artifactStoreVariables,
  count,
  duration,
  hostPort,
  keepFor,
  logLevel,
  metricsListen,
  postgresUrl,
  redisUrl,
  scheduleJitter,
  tokenOf,
  tracingVariables,
  urlOf,
  workspaceIdleStop,
  workspaceLostAfter,
} from "@helmr/process";
import { z } from "zod";
import { isLoopbackHost } from "../sign-in/loopback.ts";

const httpUrl = urlOf(["https:", "http:"], "https://host[/path]");

/** Cookies and tokens go over it: plain http only to this machine. */
const publicUrl = httpUrl
  .refine(
    (text) => {
      const parsed = URL.parse(text);
      return parsed === null || parsed.protocol === "https:" || isLoopbackHost(parsed.host);
    },
    {
      error: "must be https, except for localhost, 127.x.x.x and [::1]; TLS may end at a proxy before Helmr",
    },
  )
  .refine((text) => !/[?#]/.test(text) && !URL.parse(text)?.username, {
    error: "must have no query, fragment or user",
  })
  .transform((text) => text.replace(/\/+$/, ""));

const key = z
  .string()
  .refine((text) => /^[A-Za-z0-9+/_-]{43}=?$/.test(text) && Buffer.from(text, "base64").length === 32, {
    error: "must be 32 random bytes in base64; make one with: openssl rand -base64 32",
  });

const proxies = z
  .string()
  .transform((text) => text.split(",").map((part) => part.trim()))
  .refine((list) => list.every(isNetwork), {
    error: "must be addresses or networks separated by commas, like 10.0.0.5,192.168.0.0/16",
  });

function isNetwork(text: string): boolean {
  const [address = "", bits, more] = text.split("/");
  const version = isIP(address);
  const maxBits = version === 4 ? 32 : 128;
  return (
    version !== 0 &&
    more === undefined &&
    (bits === undefined || (/^\d+$/.test(bits) && Number(bits) <= maxBits))
  );
}

const flag = z
  .enum(["true", "false", "1", "0"], { error: "must be true or false" })
  .transform((text) => text === "true" || text === "1");

export const controlVariables = {
  HELMR_DATABASE_URL: postgresUrl,
  HELMR_PUBLIC_URL: publicUrl.describe("where browsers, the CLI and SDKs reach this server"),
  HELMR_LISTEN: hostPort.default("127.0.0.1:4747").describe("host:port of the HTTP server"),
  HELMR_METRICS_LISTEN: metricsListen.describe(
    `${metricsListen.description}; the public port has health and readiness too`,
  ),
  HELMR_SHUTDOWN_DELAY: duration("0s", "0s").describe(
    "after SIGTERM: how long requests are still taken while /readyz is 503; longer than the load balancer takes to notice",
  ),
  ...artifactStoreVariables,
  ...artifactKeyVariables,
  HELMR_SECRET_ENCRYPTION_KEY: key.describe("32 random bytes in base64: encrypts secrets in the database"),
  HELMR_SECRET_ENCRYPTION_KEY_OLD: key.optional().describe("the key before it, during a rotation"),
  HELMR_AUTH_SECRET: key.describe(
    "32 random bytes in base64: secrets of tokens that runs wait for are derived from it",
  ),
  HELMR_DEPLOYMENT_MODE: z
    .enum(["self-hosted", "managed-cloud"], { error: "must be self-hosted or managed-cloud" })
    .default("self-hosted")
    .describe("self-hosted: one organization; managed-cloud: users create their own"),
  HELMR_SETUP_TOKEN: tokenOf(16)
    .optional()
    .describe("creates the first organization of a self-hosted installation"),
  HELMR_WORKER_BOOTSTRAP_TOKEN: tokenOf(32)
    .optional()
    .describe("with it workers register; without one none can be added"),
  HELMR_OPERATOR_TOKEN: tokenOf(32)
    .optional()
    .describe("whoever has it administers worker groups and workers, and routes environments to them"),
  HELMR_TRUSTED_PROXIES: proxies
    .optional()
    .describe("addresses or networks of reverse proxies whose X-Forwarded-For is believed"),
  HELMR_REDIS_URL: redisUrl
    .optional()
    .describe(
      "Redis or Valkey: hints go over it, and rate limits are counted there, for all processes together",
    ),
  HELMR_WORKER_LEASE: duration("30s")
    .refine((ms) => ms >= 2_000, { error: "must be 2s at least" })
    .describe("a worker that is silent for so long loses its runs and builds to others"),
  HELMR_SCHEDULE_JITTER: scheduleJitter,
  HELMR_WORKSPACE_IDLE_STOP: workspaceIdleStop,
  HELMR_WORKSPACE_LOST_AFTER: workspaceLostAfter,
  HELMR_WORKSPACE_SYSTEM_VERSIONS: count(50, 10_000).describe(
    "saved versions of a workspace that runs left behind and that are kept; what somebody saved, restored or uploaded stays",
  ),
  HELMR_WORKSPACE_DELETE_AFTER: keepFor("720h").describe(
    "from archiving a workspace until its files are removed",
  ),
  HELMR_WORKSPACE_UPLOAD_MIB: count(1024, 1024 * 1024).describe(
    "of one upload into a workspace (a file, or an archive and the files in it)",
  ),
  HELMR_LOG_LEVEL: logLevel,
  HELMR_EMAIL_PROVIDER: z
    .enum(["smtp", "resend", "log", "none"], { error: "must be smtp, resend, log or none" })
    .default("none")
    .describe("how e-mail is sent; log writes it to the log, links included: for development"),
  HELMR_EMAIL_FROM: z
    .string()
    .optional()
    .describe("sender, like `Helmr <helmr@example.com>`; for smtp and resend"),
  HELMR_SMTP_URL: z.string().optional().describe("smtp://user:password@host:587 or smtps://…; for smtp"),
  HELMR_RESEND_API_KEY: z.string().optional().describe("for resend"),
  HELMR_MAGIC_LINK_DEBUG_URLS: flag
    .optional()
    .describe("true: answers carry the sign-in link; only where the public URL is this machine"),
  HELMR_GITHUB_CLIENT_ID: z.string().optional().describe("OAuth app for sign-in with GitHub"),
  HELMR_GITHUB_CLIENT_SECRET: z.string().optional().describe("its secret"),
  HELMR_GITHUB_URL: httpUrl.optional().describe("of GitHub Enterprise Server; else https://github.com"),
  HELMR_GITHUB_API_URL: httpUrl.optional().describe("its API; else https://api.github.com"),
  HELMR_OIDC_ISSUER: httpUrl.optional().describe("OpenID Connect provider with discovery"),
  HELMR_OIDC_CLIENT_ID: z.string().optional().describe("client of that provider"),
  HELMR_OIDC_CLIENT_SECRET: z.string().optional().describe("its secret"),
  HELMR_OIDC_DISPLAY_NAME: z.string().optional().describe("on the sign-in button; else the issuer's host"),
  ...tracingVariables,
} as const;

/** What `migrate` and `secrets reencrypt` need of them. */
export const databaseVariables = {
  HELMR_DATABASE_URL: controlVariables.HELMR_DATABASE_URL,
} as const;
export const reencryptArtifactsVariables = {
  ...databaseVariables,
  ...artifactStoreVariables,
  ...artifactKeyVariables,
} as const;
export const reencryptVariables = {
  ...databaseVariables,
  HELMR_SECRET_ENCRYPTION_KEY: controlVariables.HELMR_SECRET_ENCRYPTION_KEY,
  HELMR_SECRET_ENCRYPTION_KEY_OLD: controlVariables.HELMR_SECRET_ENCRYPTION_KEY_OLD,
} as const;
