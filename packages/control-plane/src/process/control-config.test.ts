import { randomBytes } from "node:crypto";
import { parseArtifactKeys } from "@helmr/artifacts";
import { describe, expect, test } from "vitest";
import { readControlConfig } from "./control-config.ts";

const key = randomBytes(32).toString("base64");
const minimal = {
  HELMR_DATABASE_URL: "postgres://helmr:planted-password@localhost/helmr",
  HELMR_PUBLIC_URL: "https://helmr.example.com/",
  HELMR_CAS_URI: "file:///var/lib/helmr/artifacts",
  HELMR_ARTIFACT_ENCRYPTION_KEY: key,
  HELMR_SECRET_ENCRYPTION_KEY: key,
  HELMR_AUTH_SECRET: key,
};

const problems = (environment: Record<string, string>): string[] => {
  try {
    readControlConfig(environment);
  } catch (error) {
    return (error as Error).message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
};

test("what is needed, and what the rest is then", () => {
  expect(readControlConfig(minimal)).toEqual({
    databaseUrl: minimal.HELMR_DATABASE_URL,
    listen: { host: "127.0.0.1", port: 4747 },
    // Nothing else of the environment: there are secrets in it.
    tracing: {
      OTEL_TRACES_SAMPLER: "parentbased_always_on",
      OTEL_TRACES_SAMPLER_ARG: 1,
      OTEL_BSP_SCHEDULE_DELAY: 5000,
    },
    shutdownDelayMs: 0,
    artifactStore: {
      place: { kind: "folder", folder: "/var/lib/helmr/artifacts" },
      s3: { endpoint: undefined, region: undefined, forcePathStyle: false },
      stagingDir: undefined,
    },
    artifactKeys: parseArtifactKeys({ current: key }),
    authSecret: Buffer.from(key, "base64"),
    secretKeys: { current: key, old: undefined },
    workerBootstrapToken: undefined,
    logLevel: "info",
    workerLeaseMs: 30_000,
    mailer: { kind: "none" },
    controlPlane: {
      publicUrl: "https://helmr.example.com",
      deploymentMode: "self-hosted",
      scheduleJitterMs: 30_000,
      workspaces: {
        idleStopMs: 600_000,
        lostAfterMs: 300_000,
        keptSystemVersions: 50,
        deleteAfterMs: 30 * 86_400_000,
        maxArchiveBytes: 2 ** 30,
      },
    },
  });
});

test("everything that is missing, at once", () => {
  expect(problems({}).map((line) => line.split(":")[0])).toEqual(Object.keys(minimal));
});

test("everything that is set", () => {
  const config = readControlConfig({
    ...minimal,
    HELMR_LISTEN: "[::]:80",
    HELMR_SECRET_ENCRYPTION_KEY_OLD: Buffer.alloc(32, 1).toString("base64"),
    HELMR_TRUSTED_PROXIES: "10.0.0.0/8, ::1",
    HELMR_EMAIL_PROVIDER: "smtp",
    HELMR_EMAIL_FROM: "Helmr <helmr@example.com>",
    HELMR_SMTP_URL: "smtps://mail.example.com",
    HELMR_GITHUB_CLIENT_ID: "id",
    HELMR_GITHUB_CLIENT_SECRET: "secret",
    HELMR_OIDC_ISSUER: "https://id.example.com",
    HELMR_OIDC_CLIENT_ID: "id",
    HELMR_OIDC_CLIENT_SECRET: "secret",
    HELMR_REDIS_URL: "redis://localhost",
  });
  expect(config.listen).toEqual({ host: "::", port: 80 });
  expect(config.mailer).toMatchObject({ kind: "smtp", url: "smtps://mail.example.com" });
  expect(config.controlPlane).toMatchObject({
    trustedProxies: ["10.0.0.0/8", "::1"],
    redisUrl: "redis://localhost",
    github: { clientId: "id", clientSecret: "secret" },
    oidc: { issuer: "https://id.example.com", clientId: "id", clientSecret: "secret" },
  });
});

describe("refused, each with its variable and without its value", () => {
  test.each([
    ["HELMR_DATABASE_URL", "mysql://planted-secret"],
    ["HELMR_PUBLIC_URL", "http://planted-secret.example.com"],
    ["HELMR_PUBLIC_URL", "https://helmr.example.com/?planted-secret"],
    ["HELMR_LISTEN", "planted-secret"],
    ["HELMR_LISTEN", "localhost:70000"],
    ["HELMR_CAS_URI", "/planted-secret"],
    ["HELMR_ARTIFACT_ENCRYPTION_KEY", "planted-secret"],
    ["HELMR_ARTIFACT_ENCRYPTION_KEY_OLD", "planted-secret"],
    ["HELMR_SECRET_ENCRYPTION_KEY", "planted-secret"],
    ["HELMR_SECRET_ENCRYPTION_KEY_OLD", "planted-secret"],
    ["HELMR_SECRET_ENCRYPTION_KEY_OLD", key],
    ["HELMR_DEPLOYMENT_MODE", "planted-secret"],
    ["HELMR_SETUP_TOKEN", "planted-secret"],
    ["HELMR_WORKER_BOOTSTRAP_TOKEN", "planted-secret"],
    ["HELMR_TRUSTED_PROXIES", "planted-secret"],
    ["HELMR_TRUSTED_PROXIES", "10.0.0.0/33"],
    ["HELMR_REDIS_URL", "http://planted-secret"],
    ["HELMR_WORKER_LEASE", "planted-secret"],
    ["HELMR_WORKER_LEASE", "1s"],
    ["HELMR_LOG_LEVEL", "planted-secret"],
    ["HELMR_EMAIL_PROVIDER", "planted-secret"],
    ["HELMR_MAGIC_LINK_DEBUG_URLS", "planted-secret"],
    ["HELMR_MAGIC_LINK_DEBUG_URLS", "true"],
    ["HELMR_GITHUB_URL", "planted-secret"],
    ["HELMR_OIDC_ISSUER", "planted-secret"],
  ])("%s=%s", (name, value) => {
    const [problem, ...more] = problems({ ...minimal, [name]: value });
    expect(problem).toMatch(new RegExp(`^${name}: (must|is)`));
    expect(more).toEqual([]);
    expect(problem).not.toContain("planted-secret");
    expect(problem).not.toContain(key);
  });

  test.each([
    [{ HELMR_EMAIL_PROVIDER: "smtp" }, ["HELMR_SMTP_URL", "HELMR_EMAIL_FROM"]],
    [{ HELMR_EMAIL_PROVIDER: "resend", HELMR_EMAIL_FROM: "a@example.com" }, ["HELMR_RESEND_API_KEY"]],
    [
      { HELMR_EMAIL_PROVIDER: "smtp", HELMR_EMAIL_FROM: "a@b.c", HELMR_SMTP_URL: "planted" },
      ["HELMR_SMTP_URL"],
    ],
    [{ HELMR_GITHUB_CLIENT_ID: "id" }, ["HELMR_GITHUB_CLIENT_SECRET"]],
    [{ HELMR_OIDC_CLIENT_SECRET: "planted" }, ["HELMR_OIDC_ISSUER", "HELMR_OIDC_CLIENT_ID"]],
  ])("%j lacks %j", (set, lacking) => {
    const found = problems({ ...minimal, ...set });
    expect(found.map((line) => line.split(":")[0])).toEqual(lacking);
    expect(found.join()).not.toContain("planted");
  });
});

test("links in answers are fine for this machine", () => {
  const local = {
    ...minimal,
    HELMR_PUBLIC_URL: "http://localhost:4747",
    HELMR_MAGIC_LINK_DEBUG_URLS: "true",
  };
  expect(readControlConfig(local).controlPlane.magicLinkDebugUrls).toBe(true);
});
