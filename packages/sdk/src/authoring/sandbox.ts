/**
 * `sandbox(id)`: an immutable builder of the Linux environment a task runs in (contract 13.5).
 */
import { branded, sandboxBrand } from "../brand.ts";
import {
  expectAbsolutePath,
  expectInteger,
  expectKeys,
  expectObject,
  expectPattern,
  expectTextList,
  fail,
  idPattern,
  show,
} from "./checks.ts";
import { expectSteps, type Image, type ImageDefinition, imageDefinition } from "./image.ts";

export interface SandboxResources {
  /** Whole vCPUs; default 2. */
  readonly cpu?: number | undefined;
  /** Such as "512Mi", "4Gi" or "2048" (MiB); default 2048 MiB. */
  readonly memory?: string | undefined;
  /** As memory; default 10 GiB. */
  readonly disk?: string | undefined;
}
export interface SandboxNetwork {
  /** true (default): the internet; false: no network; object: the internet with lists of addresses and names. */
  readonly internet?:
    | boolean
    | { readonly allow?: readonly string[] | undefined; readonly deny?: readonly string[] | undefined }
    | undefined;
}
/** The catalog's shape of a sandbox. */
export interface SandboxDefinition {
  id: string;
  image: ImageDefinition;
  workspace_mount_path: string;
  resources: { cpu: number; memory_mib: number; disk_mib: number };
  network: { internet: boolean; allow: string[]; deny: string[] };
}
type SandboxState = Omit<SandboxDefinition, "image"> & { image: ImageDefinition | undefined };

export interface Sandbox {
  readonly id: string;
  /** The root filesystem; required. */
  image(image: Image): Sandbox;
  /** Where the durable workspace is mounted and tasks start; default `/workspace`. */
  workspace(mountPath?: string): Sandbox;
  resources(resources: SandboxResources): Sandbox;
  network(network: SandboxNetwork): Sandbox;
  readonly [sandboxBrand]: SandboxState;
}

/** Reserved in every guest (contract 13.5). */
const reservedPaths = ["/dev", "/opt/helmr", "/proc", "/run", "/sys", "/tmp", "/.helmr-old-root"];

/** A new sandbox with the defaults. Every call returns a new builder; the one it was called on is unchanged. */
export function sandbox(id: string): Sandbox {
  return build({
    id: expectPattern(id, idPattern, "sandbox(id)"),
    image: undefined,
    workspace_mount_path: "/workspace",
    resources: { cpu: 2, memory_mib: 2048, disk_mib: 10240 },
    network: { internet: true, allow: [], deny: [] },
  });
}

function build(state: SandboxState): Sandbox {
  const name = `sandbox(${JSON.stringify(state.id)})`;
  return Object.freeze({
    id: state.id,
    image: (image: Image) => {
      const definition = imageDefinition(image);
      if (definition === undefined)
        fail(`${name}.image(image)`, `must be an image("id"), got ${show(image)}`);
      return build({ ...state, image: expectSteps(definition, `${name}.image`) });
    },
    workspace: (mountPath = "/workspace") =>
      build({ ...state, workspace_mount_path: expectMountPath(mountPath, `${name}.workspace(mountPath)`) }),
    resources: (resources: SandboxResources) =>
      build({
        ...state,
        resources: { ...state.resources, ...expectResources(resources, `${name}.resources`) },
      }),
    network: (network: SandboxNetwork) =>
      build({ ...state, network: expectNetwork(network, `${name}.network`) }),
    [sandboxBrand]: state,
  });
}

function expectMountPath(value: unknown, where: string): string {
  const path = expectAbsolutePath(value, where);
  if (path === "/") fail(where, 'must not be "/"; write a folder of its own such as "/workspace"');
  const reserved = reservedPaths.find((prefix) => path === prefix || path.startsWith(`${prefix}/`));
  if (reserved !== undefined) {
    fail(
      where,
      `must not lie under ${reserved}, which Helmr needs itself; write a folder such as "/workspace"`,
    );
  }
  return path;
}

function expectResources(value: unknown, where: string): Partial<SandboxDefinition["resources"]> {
  const resources = expectObject(value, where, '{ cpu: 2, memory: "2Gi", disk: "10Gi" }');
  expectKeys(resources, ["cpu", "memory", "disk"], where);
  const { cpu, memory, disk } = resources;
  return {
    ...(cpu === undefined
      ? {}
      : { cpu: expectInteger(cpu, 1, Number.MAX_SAFE_INTEGER, `${where}.cpu`, "vCPUs") }),
    ...(memory === undefined ? {} : { memory_mib: expectMib(memory, `${where}.memory`) }),
    ...(disk === undefined ? {} : { disk_mib: expectMib(disk, `${where}.disk`) }),
  };
}

/** MiB of "512Mi", "2GiB", "1048576Ki" or "2048". */
function expectMib(value: unknown, where: string): number {
  const match = typeof value === "string" ? /^(\d+)(ki|kib|mi|mib|gi|gib)?$/i.exec(value) : null;
  if (match === null)
    fail(where, `must be a size such as "512Mi", "4Gi" or "2048" (MiB), got ${show(value)}`);
  const unit = (match[2] ?? "mi").toLowerCase();
  const factor = unit.startsWith("g") ? 1024 : unit.startsWith("k") ? 1 / 1024 : 1;
  const mib = Number(match[1]) * factor;
  if (!Number.isSafeInteger(mib) || mib < 1)
    fail(where, `must be a whole number of MiB of at least 1, got ${show(value)}`);
  return mib;
}

function expectNetwork(value: unknown, where: string): SandboxDefinition["network"] {
  const network = expectObject(value, where, "{ internet: false }");
  expectKeys(network, ["internet"], where);
  const { internet } = network;
  if (internet === undefined || internet === true) return { internet: true, allow: [], deny: [] };
  if (internet === false) return { internet: false, allow: [], deny: [] };
  const lists = expectObject(internet, `${where}.internet`, 'true, false or { deny: ["10.0.0.0/8"] }');
  expectKeys(lists, ["allow", "deny"], `${where}.internet`);
  return {
    internet: true,
    allow: expectEntries(lists.allow, `${where}.internet.allow`),
    deny: expectEntries(lists.deny, `${where}.internet.deny`).map((entry, index) =>
      expectDenied(entry, `${where}.internet.deny[${index}]`),
    ),
  };
}

/** An address, a CIDR, or a host name: what a guest's start would refuse is refused where it is written. */
function expectDenied(entry: string, where: string): string {
  const [address = "", prefix, ...rest] = entry.split("/");
  const octets = /^\d{1,3}(\.\d{1,3}){3}$/.test(address) ? address.split(".").map(Number) : undefined;
  const isIpv4 = octets?.every((octet) => octet <= 255) === true;
  const isIpv6 = address.includes(":") && /^[0-9a-fA-F:.]+$/.test(address);
  const bits = prefix === undefined ? 0 : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN;
  const isCidr = (isIpv4 || isIpv6) && rest.length === 0 && bits <= (isIpv4 ? 32 : 128);
  const isName = octets === undefined && /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i.test(entry);
  if (!isCidr && !isName) {
    fail(
      where,
      `must be an address, a CIDR or a host name such as "10.0.0.0/8" or "example.com", got ${show(entry)}`,
    );
  }
  return entry;
}

function expectEntries(value: unknown, where: string): string[] {
  if (value === undefined) return [];
  return expectTextList(value, where).map((entry, index) => {
    const trimmed = entry.trim();
    if (trimmed === "") fail(`${where}[${index}]`, "must not be blank");
    return trimmed;
  });
}

/** Whether `value` is a sandbox made by any copy of the SDK. */
export function isSandbox(value: unknown): value is Sandbox {
  return branded(value, sandboxBrand) !== undefined;
}

/**
 * The catalog's form of a sandbox. Throws a TypeError when it is no sandbox, has no image, or asks for what cannot be
 * built (contract 13.5: a non-empty `allow` list).
 */
export function sandboxDefinition(value: unknown): SandboxDefinition {
  const state = branded<SandboxState>(value, sandboxBrand);
  if (state === undefined) fail("sandbox", `must be a sandbox("id") builder, got ${show(value)}`);
  const name = `sandbox(${JSON.stringify(state.id)})`;
  const { image } = state;
  if (image === undefined) fail(name, 'has no image; add .image(image("id").from("node:24-bookworm-slim"))');
  if (state.network.allow.length > 0) {
    fail(`${name}.network.internet.allow`, "allow lists are not supported; use deny, or internet: false");
  }
  return structuredClone({ ...state, image });
}
