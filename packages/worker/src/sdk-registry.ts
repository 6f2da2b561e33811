/**
 * A read-only npm registry with one package, `@helmr/sdk`, for build guests and the `run` steps of images.
 *
 * It listens on the loopback address; guests reach it through the gateway (GuestNetwork.workerPorts). Routes, below a
 * secret path segment per build:
 *
 *   GET /<token>/@helmr/sdk  (or @helmr%2fsdk)        packument with the versions the build's project asks for
 *   GET /<token>/@helmr/sdk/-/sdk-<version>.tgz       our SDK with that version number in its package.json
 *
 *  I1  Nothing else of this host is served, and nothing under a token that is not open.
 */
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join, relative } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { offeredVersions, sdkPackageName } from "./sdk-versions.ts";

export interface RegistryAccess {
  /** Base URL as the guest sees it, ending in `/`. */
  readonly url: string;
  readonly token: string;
  close(): void;
}

interface Offer {
  readonly versions: readonly string[];
  readonly tags: readonly string[];
}

/** A build asks for a handful of versions; bounds what one worker keeps. */
const maxTarballs = 64;

export class SdkRegistry {
  readonly #packageDir: string;
  readonly #gatewayAddress: string;
  readonly #offers = new Map<string, Offer>();
  readonly #tarballs = new Map<string, Promise<Buffer>>();
  readonly #server: Server;
  #ownVersion = "";

  /** `packageDir`: the SDK as packed for npm (package.json and dist). */
  constructor(options: { readonly packageDir: string; readonly gatewayAddress: string }) {
    this.#packageDir = options.packageDir;
    this.#gatewayAddress = options.gatewayAddress;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.writeHead(500).end());
    });
  }

  async start(): Promise<void> {
    this.#ownVersion = JSON.parse(await readFile(join(this.#packageDir, "package.json"), "utf8")).version;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", resolve);
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  get ownVersion(): string {
    return this.#ownVersion;
  }

  /** For GuestNetwork.workerPorts. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Open the registry for one build, whose project names the SDK with these specs. */
  open(specs: readonly string[]): RegistryAccess {
    const token = randomBytes(18).toString("base64url");
    this.#offers.set(token, offeredVersions(this.#ownVersion, specs));
    const url = `http://${this.#gatewayAddress}:${this.port}/${token}/`;
    return { url, token, close: () => void this.#offers.delete(token) };
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "");
    const match = /^\/([\w-]{1,64})\/@helmr\/sdk(?:\/-\/sdk-([\w.+-]{1,128})\.tgz)?$/.exec(path);
    const token = match?.[1] ?? "";
    const offer = this.#offers.get(token);
    const isRead = request.method === "GET" || request.method === "HEAD";
    if (match === null || offer === undefined || !isRead) return notFound(response);
    const version = match[2];
    if (version === undefined) return send(response, "application/json", await this.#packument(token, offer));
    if (!offer.versions.includes(version)) return notFound(response);
    send(response, "application/octet-stream", await this.#tarball(version));
  }

  async #packument(token: string, offer: Offer): Promise<Buffer> {
    const base = `http://${this.#gatewayAddress}:${this.port}/${token}/${sdkPackageName}`;
    const manifest = JSON.parse(await readFile(join(this.#packageDir, "package.json"), "utf8"));
    const versions: Record<string, unknown> = {};
    for (const version of offer.versions) {
      const tarball = await this.#tarball(version);
      const dist = {
        tarball: `${base}/-/sdk-${version}.tgz`,
        integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}`,
        shasum: createHash("sha1").update(tarball).digest("hex"),
      };
      versions[version] = { ...manifest, version, dist };
    }
    const tags = Object.fromEntries(offer.tags.map((tag) => [tag, this.#ownVersion]));
    return Buffer.from(JSON.stringify({ name: sdkPackageName, "dist-tags": tags, versions }));
  }

  #tarball(version: string): Promise<Buffer> {
    const known = this.#tarballs.get(version);
    if (known !== undefined) return known;
    const made = packSdk(this.#packageDir, version);
    this.#tarballs.set(version, made);
    const [oldest] = this.#tarballs.keys();
    if (this.#tarballs.size > maxTarballs && oldest !== undefined) this.#tarballs.delete(oldest);
    return made;
  }
}

/** The same bytes for the same input: integrity in the packument must match on every request. */
async function packSdk(packageDir: string, version: string): Promise<Buffer> {
  const archive = pack();
  const done = buffer(archive);
  const entries = await readdir(packageDir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) {
    const name = relative(packageDir, file);
    const bytes = await readFile(file);
    const content =
      name === "package.json"
        ? Buffer.from(JSON.stringify({ ...JSON.parse(bytes.toString()), version }, null, 2))
        : bytes;
    archive.entry({ name: `package/${name}`, mtime: new Date(0), mode: 0o644 }, content);
  }
  archive.finalize();
  return gzipSync(await done);
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { "content-type": "application/json" }).end('{"error":"not found"}');
}

function send(response: ServerResponse, contentType: string, body: Buffer): void {
  response.writeHead(200, { "content-type": contentType, "content-length": body.length }).end(body);
}
