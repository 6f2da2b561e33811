/** What lies in deploy/: read by its tools' rules, and every variable is one that its process has. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { controlVariables } from "../../packages/control-plane/src/process/variables.ts";
import { dispatcherVariables } from "../../packages/dispatcher/src/process/variables.ts";
import { describeVariables } from "../../packages/process/src/index.ts";
import { workerVariables } from "../../packages/worker/src/process/variables.ts";

const root = join(import.meta.dirname, "../..");
const deploy = join(root, "deploy");
const read = (path: string) => readFileSync(join(deploy, path), "utf8");

const processes = {
  control: controlVariables,
  dispatcher: dispatcherVariables,
  worker: workerVariables,
} as const;
type ProcessName = keyof typeof processes;
const names = Object.keys(processes) as ProcessName[];
const known = (name: ProcessName): ReadonlySet<string> => new Set(Object.keys(processes[name]));
const knownToAny = new Set(names.flatMap((name) => [...known(name)]));
const required = (name: ProcessName) =>
  describeVariables(processes[name])
    .filter(({ standard }) => standard === "required")
    .map((variable) => variable.name);
/** Helmr's own: others (`AWS_SECRET_ACCESS_KEY`) are read by libraries. */
const ours = (all: Iterable<string>) => [...all].filter((name) => name.startsWith("HELMR_"));
const assignments = (text: string) =>
  new Map([...text.matchAll(/^([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "helmr-deploy-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function makeSecrets(): Map<string, string> {
  writeFileSync(join(folder, "make-secrets.sh"), read("compose/make-secrets.sh"), { mode: 0o755 });
  execFileSync(join(folder, "make-secrets.sh"), { stdio: "ignore" });
  return assignments(readFileSync(join(folder, "secrets.env"), "utf8"));
}

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Record<string, string>;
  readonly env_file?: readonly string[];
}

describe("compose", () => {
  const { services, volumes } = parse(read("compose/compose.yaml"), { merge: true }) as {
    readonly services: Record<string, Service & { readonly volumes?: readonly string[] }>;
    readonly volumes: object;
  };

  test.each(names)("%s has what it needs, and nothing that it does not know", (name) => {
    const secrets = makeSecrets();
    const mine = Object.entries(services).filter(([service]) => service.split("-")[0] === name);
    expect(mine.length).toBe(name === "worker" ? 1 : 2);
    // Set in the image.
    const inImage =
      name === "worker" ? ["HELMR_WORKER_DATA_DIR", "HELMR_RUNSC_PATH", "HELMR_IMAGES_DIR"] : [];
    for (const [service, { environment = {}, env_file }] of mine) {
      expect(env_file).toEqual(["secrets.env"]);
      const set = new Set([...Object.keys(environment), ...secrets.keys(), ...inImage]);
      expect(
        required(name).filter((variable) => !set.has(variable)),
        service,
      ).toEqual([]);
      expect(
        ours(Object.keys(environment)).filter((variable) => !known(name).has(variable)),
        service,
      ).toEqual([]);
    }
    expect(ours(secrets.keys()).filter((variable) => !knownToAny.has(variable))).toEqual([]);
  });

  test("secrets are made once, for their owner alone, and are valid", () => {
    const secrets = makeSecrets();
    expect(spawnSync(join(folder, "make-secrets.sh"), { stdio: "ignore" }).status).toBe(1);
    for (const [name, value] of secrets) {
      const schema = { ...controlVariables, ...workerVariables }[name as "HELMR_AUTH_SECRET"];
      expect(schema?.safeParse(value).success ?? value.length > 4, name).toBe(true);
    }
  });

  test("images have versions, and volumes are declared", () => {
    for (const [name, { image }] of Object.entries(services)) expect(image, name).toMatch(/:v?\d+\.\d+/);
    const used = Object.values(services).flatMap((service) => service.volumes ?? []);
    const named = used.filter((volume) => /^[a-z]+:/.test(volume)).map((volume) => volume.split(":")[0]);
    expect(new Set(named)).toEqual(new Set(Object.keys(volumes)));
  });
});

describe("docker", () => {
  test.each(["Dockerfile", "Dockerfile.worker"])(
    "%s builds from an image with a version, and sets known variables",
    (file) => {
      const text = read(`docker/${file}`);
      const bases = [...text.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image);
      expect(new Set(bases)).toEqual(new Set(["node:24-bookworm-slim"]));
      for (const name of text.match(/HELMR_[A-Z0-9_]+/g) ?? []) expect([...knownToAny]).toContain(name);
      for (const [, path = ""] of text.matchAll(/ \/opt\/helmr\/(\S+\.mjs)/g)) readFileSync(join(root, path));
    },
  );
});

describe("systemd", () => {
  const units = readdirSync(join(deploy, "systemd")).filter((name) => name.endsWith(".service"));

  test.each(names)("%s.env.example names what is required, and nothing else", (name) => {
    const set = assignments(read(`systemd/${name}.env.example`));
    expect(required(name).filter((variable) => !set.has(variable))).toEqual([]);
    expect(ours(set.keys()).filter((variable) => !known(name).has(variable))).toEqual([]);
  });

  test("every unit starts a program that is there, with an environment that is there", () => {
    for (const unit of units) {
      const text = read(`systemd/${unit}`);
      const program = /^ExecStart=\/usr\/bin\/node \/opt\/helmr\/(\S+)/m.exec(text)?.[1];
      readFileSync(join(root, program ?? unit));
      const file = /^EnvironmentFile=\/etc\/helmr\/(\w+\.env)$/m.exec(text)?.[1];
      read(`systemd/${file}.example`);
    }
  });

  const hasSystemd = spawnSync("systemd-analyze", ["--version"], { stdio: "ignore" }).status === 0;
  test.runIf(hasSystemd)("systemd accepts them", () => {
    const paths = units.map((unit) => {
      const text = read(`systemd/${unit}`).replaceAll("/usr/bin/node", process.execPath);
      const path = join(folder, unit);
      writeFileSync(path, text.replaceAll("/opt/helmr", root));
      return path;
    });
    const verified = spawnSync("systemd-analyze", ["verify", "--man=no", ...paths], { encoding: "utf8" });
    expect(verified.stderr).toBe("");
    expect(verified.status).toBe(0);
  });
});

describe("helm", () => {
  const templates = readdirSync(join(deploy, "helm/helmr/templates"));

  test("values and chart are YAML; the chart is of this version", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(parse(read("helm/helmr/Chart.yaml"))).toMatchObject({ name: "helmr", appVersion: version });
    expect(parse(read("helm/helmr/values.yaml"))).toMatchObject({ control: { replicas: 2 } });
  });

  test("templates set known variables, and braces are balanced", () => {
    for (const template of templates) {
      const text = read(`helm/helmr/templates/${template}`);
      for (const name of text.match(/HELMR_[A-Z0-9_]+/g) ?? [])
        expect([...knownToAny], template).toContain(name);
      expect(text.split("{{").length, template).toBe(text.split("}}").length);
    }
  });

  const hasHelm = spawnSync("helm", ["version"], { stdio: "ignore" }).status === 0;
  test.runIf(hasHelm)("helm renders every part", () => {
    const set = [
      "existingSecret=keys",
      "existingWorkerSecret=worker-keys",
      "publicUrl=https://helmr.example.com",
      "objectStore.uri=s3://bucket/objects",
      "objectStore.endpoint=https://s3.example.com",
      "ingress.enabled=true",
      "podMonitor.enabled=true",
    ].flatMap((value) => ["--set", value]);
    const text = execFileSync(
      "helm",
      ["template", "helmr", join(deploy, "helm/helmr"), "--kube-version", "1.31.0", ...set],
      {
        encoding: "utf8",
      },
    );
    const kinds = text
      .split(/^---$/m)
      .map((document) => (parse(document) as { kind?: string } | null)?.kind)
      .filter((kind) => kind !== undefined);
    for (const kind of ["Deployment", "StatefulSet", "Job", "Ingress", "NetworkPolicy", "PodMonitor"]) {
      expect(kinds).toContain(kind);
    }
  });
});
