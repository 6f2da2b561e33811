/**
 * Pulling images from registries: skopeo copies to an OCI layout, umoci unpacks it. Mirrors, credentials and policy
 * come from the host's containers configuration (registries.conf, auth.json, policy.json), as for podman.
 *
 * What a registry sends is untrusted: skopeo checks every blob against its digest, the unpacked size is bounded before
 * anything is unpacked, umoci resolves paths inside the target only, device nodes are dropped by the store.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ExecaError, execa } from "execa";
import { unpackedBytes } from "./layer-size.ts";
import { canonicalName } from "./names.ts";
import { type ImageConfig, placeImage, resolveImage, type StoredImage, withImageLock } from "./store.ts";

export type PullErrorCode =
  | "tool_missing"
  | "unreachable"
  | "not_found"
  | "unauthorized"
  | "too_large"
  | "unpack_failed";

export class PullError extends Error {
  override readonly name = "PullError";
  readonly code: PullErrorCode;
  constructor(code: PullErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface PullOptions {
  /** Registry credentials in the format of `docker login`; default: the host's own. */
  readonly authFile?: string;
  /** Limit for the registry's first answer. Default 15 s. */
  readonly connectTimeoutMs?: number;
  /** Limit for the copy and for the unpacking, each. Default 10 minutes. */
  readonly timeoutMs?: number;
  /** Limit for the unpacked layers together. Default 20 GiB. */
  readonly maxUnpackedBytes?: number;
  readonly signal?: AbortSignal;
}

const GIB = 1024 ** 3;

/** The names of the architectures in the image format. */
const OCI_ARCHITECTURE = { x64: "amd64", arm64: "arm64" } as const;

function hostArchitecture(): "x64" | "arm64" {
  if (process.arch === "x64" || process.arch === "arm64") return process.arch;
  throw new PullError(
    "unpack_failed",
    `no images for the architecture ${process.arch}: x64 and arm64 are supported`,
  );
}

/** The code for what skopeo said on its standard error. */
function classify(stderr: string): PullErrorCode {
  if (/manifest unknown|name unknown|not found|no image found in/i.test(stderr)) return "not_found";
  if (/unauthorized|authentication required|denied|forbidden/i.test(stderr)) return "unauthorized";
  return "unreachable";
}

async function runTool(
  tool: "skopeo" | "umoci",
  args: string[],
  reference: string,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal | undefined },
): Promise<Uint8Array> {
  try {
    const result = await execa(tool, args, {
      stdin: "ignore",
      encoding: "buffer",
      stripFinalNewline: false, // a manifest's digest is over every byte
      timeout: options.timeoutMs,
      maxBuffer: 16 * 1024 * 1024,
      ...(options.signal && { cancelSignal: options.signal }),
    });
    return result.stdout;
  } catch (cause) {
    if (!(cause instanceof ExecaError) || cause.isCanceled) throw cause;
    if (cause.code === "ENOENT") {
      throw new PullError("tool_missing", `${tool} is not installed: apt-get install ${tool}`, { cause });
    }
    const said = Buffer.from(cause.stderr ?? "")
      .toString("utf8")
      .trim()
      .split("\n")
      .slice(-5)
      .join("\n");
    const brief = /msg="((?:[^"\\]|\\.)*)"/.exec(said)?.[1]?.replaceAll('\\"', '"') ?? said;
    const why = cause.timedOut ? `no answer within ${options.timeoutMs / 1000} s` : brief.slice(-2000);
    const code = tool === "umoci" ? "unpack_failed" : classify(said);
    throw new PullError(code, `cannot ${tool === "umoci" ? "unpack" : "pull"} image ${reference}: ${why}`, {
      cause,
    });
  }
}

/** The JSON blob that a descriptor of the layout names. */
async function readBlob(layout: string, digest: string): Promise<Buffer> {
  const [algorithm, hex] = digest.split(":");
  if (algorithm !== "sha256" || !hex || !/^[0-9a-f]{64}$/.test(hex))
    throw new Error(`unknown digest ${digest}`);
  return readFile(join(layout, "blobs/sha256", hex));
}

function environment(entries: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const equals = entry.indexOf("=");
      return equals < 0 ? [entry, ""] : [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
}

/** Configuration and layers of the only image in an OCI layout. */
async function readLayout(layout: string, architecture: "x64" | "arm64", reference: string) {
  const index = JSON.parse(await readFile(join(layout, "index.json"), "utf8"));
  const manifest = JSON.parse((await readBlob(layout, index.manifests[0].digest)).toString());
  const image = JSON.parse((await readBlob(layout, manifest.config.digest)).toString());
  if (image.architecture !== OCI_ARCHITECTURE[architecture]) {
    throw new PullError(
      "not_found",
      `image ${reference} is for ${image.architecture}, this host is ${OCI_ARCHITECTURE[architecture]}`,
    );
  }
  const config: ImageConfig = {
    env: environment(image.config?.Env),
    user: image.config?.User ?? "",
    workdir: image.config?.WorkingDir ?? "",
    cmd: [...(image.config?.Entrypoint ?? []), ...(image.config?.Cmd ?? [])],
    architecture,
  };
  const layers: { digest: string; mediaType: string }[] = manifest.layers;
  return { config, layers };
}

async function refuseTooLarge(
  layout: string,
  layers: readonly { digest: string; mediaType: string }[],
  reference: string,
  limit: number,
): Promise<void> {
  let total = 0;
  for (const layer of layers) {
    const file = join(layout, "blobs/sha256", layer.digest.replace("sha256:", ""));
    total += await unpackedBytes(file, layer.mediaType, limit - total);
    if (total > limit) {
      throw new PullError(
        "too_large",
        `image ${reference} unpacks to more than ${(limit / GIB).toFixed(1)} GiB`,
      );
    }
  }
}

/** The arguments that choose a registry's image for this host with these credentials. */
function selection(architecture: "x64" | "arm64", authFile: string | undefined) {
  const policy = ["/etc/containers/policy.json", `${process.env.HOME}/.config/containers/policy.json`];
  return {
    global: [
      // Without any policy file skopeo refuses every image; with one, the host's administrator has decided.
      ...(policy.some((file) => existsSync(file)) ? [] : ["--insecure-policy"]),
      ...["--override-os", "linux", "--override-arch", OCI_ARCHITECTURE[architecture]],
    ],
    auth: authFile === undefined ? [] : ["--authfile", authFile],
  };
}

/**
 * Pull `reference` into the store, where the name then resolves to it. When the registry still has the manifest that is
 * stored, nothing is copied.
 *
 * @throws {PullError} with a code that says which layer refused.
 */
export async function pullImage(
  reference: string,
  imagesDir: string,
  options: PullOptions = {},
): Promise<StoredImage> {
  const name = canonicalName(reference);
  const architecture = hostArchitecture();
  const { global, auth } = selection(architecture, options.authFile);
  const connect = { timeoutMs: options.connectTimeoutMs ?? 15_000, signal: options.signal };
  const transfer = { timeoutMs: options.timeoutMs ?? 10 * 60_000, signal: options.signal };
  const raw = await runTool(
    "skopeo",
    [...global, "inspect", "--raw", ...auth, `docker://${name}`],
    name,
    connect,
  );
  const manifestDigest = `sha256:${createHash("sha256").update(raw).digest("hex")}`;
  // By digest from here on: a tag may move between two requests.
  const exact = `docker://${name.replace(/(@.*|:[^:/]*)$/, "")}@${manifestDigest}`;

  return withImageLock(imagesDir, name, async (scratch) => {
    const stored = await resolveImage(imagesDir, name);
    if (stored?.source.kind === "registry" && stored.source.manifestDigest === manifestDigest) return stored;
    const layout = join(scratch, "oci");
    await runTool(
      "skopeo",
      [...global, "copy", "--quiet", ...auth, exact, `oci:${layout}:image`],
      name,
      transfer,
    );
    const { config, layers } = await readLayout(layout, architecture, name);
    await refuseTooLarge(layout, layers, name, options.maxUnpackedBytes ?? 20 * GIB);
    const staged = join(scratch, "rootfs");
    await runTool("umoci", ["raw", "unpack", "--image", `${layout}:image`, staged], name, transfer);
    const source = { kind: "registry", reference: name, manifestDigest } as const;
    return placeImage(imagesDir, { name, staged, config, source });
  });
}
