/** A read-only registry over OCI layouts, and layouts made with umoci: what `pullImage` is tested against. */
import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { execa } from "execa";

/** Make an OCI layout with one image of these layers; a layer is a folder, or a path to be removed. */
export async function makeLayout(
  layout: string,
  layers: readonly ({ add: string } | { remove: string })[],
  config: readonly string[] = [],
): Promise<void> {
  await execa("umoci", ["init", "--layout", layout]);
  await execa("umoci", ["new", "--image", `${layout}:latest`]);
  for (const layer of layers) {
    const args = "add" in layer ? [layer.add, "/"] : ["--whiteout", layer.remove];
    await execa("umoci", ["insert", "--image", `${layout}:latest`, ...args]);
  }
  await execa("umoci", ["config", "--image", `${layout}:latest`, ...config]);
}

/** Serve the layouts by repository name; every manifest and blob of a layout is served by tag and digest. */
export async function serveRegistry(layouts: Record<string, string>, token?: string): Promise<Server> {
  const server = createServer((request, response) => {
    if (token !== undefined && request.headers.authorization !== `Basic ${token}`) {
      return response.writeHead(401, { "www-authenticate": 'Basic realm="test"' }).end();
    }
    if (request.url === "/v2/") return response.writeHead(200).end();
    const [, repository = "", kind, reference = ""] =
      /^\/v2\/(.+)\/(manifests|blobs)\/(.+)$/.exec(request.url ?? "") ?? [];
    const layout = layouts[repository];
    if (layout === undefined) {
      return response.writeHead(404).end('{"errors":[{"code":"NAME_UNKNOWN","message":"name unknown"}]}');
    }
    const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
    const digest: string = reference.startsWith("sha256:") ? reference : index.manifests[0].digest;
    const file = join(layout, "blobs/sha256", digest.slice("sha256:".length));
    if (!existsSync(file)) return response.writeHead(404).end();
    const body = readFileSync(file);
    const type =
      kind === "manifests" ? "application/vnd.oci.image.manifest.v1+json" : "application/octet-stream";
    response.writeHead(200, {
      "content-type": type,
      "content-length": body.length,
      "docker-content-digest": digest,
    });
    response.end(request.method === "HEAD" ? undefined : body);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

export function addressOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
