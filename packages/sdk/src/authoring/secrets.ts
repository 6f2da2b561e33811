/** The secrets a task declares (contract 13.1), checked and brought into the catalog's form. */
import {
  envNamePattern,
  expectKeys,
  expectObject,
  expectPattern,
  expectSecretName,
  expectText,
  fail,
  show,
} from "./checks.ts";

/** `mode`: octal up to "0777", as text; default "0400". `owner`: a user of the image; default the image's user. */
export type TaskSecret =
  | { readonly name: string; readonly env: string }
  | {
      readonly name: string;
      readonly file: string;
      readonly mode?: string | undefined;
      readonly owner?: string | undefined;
    }
  | {
      readonly name: string;
      /** Folder in which a file named like the secret holds its value. */
      readonly dir: string;
      readonly mode?: string | undefined;
      readonly owner?: string | undefined;
    };

export type SecretDefinition =
  | { kind: "env"; name: string; env: string }
  | { kind: "file"; name: string; path: string; mode: string; owner?: string | undefined }
  | { kind: "dir"; name: string; path: string; mode: string; owner?: string | undefined };

const defaultMode = "0400";

/** Checked copies; two secrets that would land in the same variable or file are refused. */
export function expectSecrets(value: unknown, where: string): SecretDefinition[] {
  if (!Array.isArray(value))
    fail(where, `must be an array such as [{ name: "TOKEN", env: "TOKEN" }], got ${show(value)}`);
  const targets = new Map<string, number>();
  return value.map((entry, index) => {
    const definition = expectSecret(entry, `${where}[${index}]`);
    const target = targetOf(definition);
    const earlier = targets.get(target);
    if (earlier !== undefined)
      fail(`${where}[${index}]`, `duplicate of ${where}[${earlier}]: both set ${target}; remove one`);
    targets.set(target, index);
    return definition;
  });
}

function expectSecret(value: unknown, where: string): SecretDefinition {
  const secret = expectObject(value, where, '{ name: "TOKEN", env: "TOKEN" }');
  const kinds = ["env", "file", "dir"].filter((kind) => secret[kind] !== undefined);
  if (kinds.length !== 1) {
    fail(
      where,
      `needs exactly one of env, file and dir, got ${kinds.length === 0 ? "none" : kinds.join(" and ")}`,
    );
  }
  const name = expectSecretName(secret.name, `${where}.name`);
  if (kinds[0] === "env") {
    expectKeys(secret, ["name", "env"], where);
    return { kind: "env", name, env: expectPattern(secret.env, envNamePattern, `${where}.env`) };
  }
  const kind = kinds[0] === "file" ? "file" : "dir";
  expectKeys(secret, ["name", kind, "mode", "owner"], where);
  const owner = secret.owner === undefined ? undefined : expectOwner(secret.owner, `${where}.owner`);
  return {
    kind,
    name,
    path: expectSecretPath(secret[kind], `${where}.${kind}`),
    mode: expectMode(secret.mode, `${where}.mode`),
    ...(owner === undefined ? {} : { owner }),
  };
}

function expectSecretPath(value: unknown, where: string): string {
  const path = expectText(value, where);
  if (path.trim() !== path) fail(where, `must not start or end with space, got ${show(path)}`);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.length === 0) fail(where, `must name a file or folder, got ${show(path)}`);
  if (parts.includes("..")) fail(where, `must not contain "..", got ${show(path)}`);
  return `${path.startsWith("/") ? "/" : ""}${parts.join("/")}`;
}

/** Four octal digits of "400", "0400" or the number 0o400. */
function expectMode(value: unknown, where: string): string {
  if (value === undefined) return defaultMode;
  const isOctalText = typeof value === "string" && /^[0-7]{1,4}$/.test(value);
  const mode = isOctalText ? Number.parseInt(value, 8) : value;
  if (typeof mode !== "number" || !Number.isInteger(mode) || mode < 0 || mode > 0o777) {
    fail(where, `must be an octal mode up to "0777" such as "0400", got ${show(value)}`);
  }
  return mode.toString(8).padStart(4, "0");
}

function expectOwner(value: unknown, where: string): string {
  const owner = expectText(value, where);
  if (/\s/.test(owner))
    fail(where, `must be a user of the image such as "node" or "1000", got ${show(owner)}`);
  return owner;
}

/** The place a secret takes; a file and a folder's entry at the same path are the same place. */
function targetOf(secret: SecretDefinition): string {
  if (secret.kind === "env") return `the variable ${secret.env}`;
  return `the file ${secret.kind === "file" ? secret.path : `${secret.path}/${secret.name}`}`;
}
