/** The upload of a packed source (contract 9.1): metadata first, then the tar, streamed from its file. */
import { openAsBlob } from "node:fs";
import type { ApiClient } from "../client/api-client.ts";
import type { Deployment } from "../client/wire.ts";
import { apiVersion, cliVersion } from "../version.ts";
import type { Archive } from "./pack.ts";

/** Slow lines need time: 128 MiB at 1 Mbit/s take 18 minutes, and the command's own `--timeout` is over all of it. */
const uploadTimeoutMs = 20 * 60_000;
/** Constants of contract 9.1. */
const bundleFormatVersion = 2;
const workerProtocolVersion = "helmr.worker.v1";

/** Create a deployment from the archive in `file`. */
export async function upload(api: ApiClient, file: string, archive: Archive): Promise<Deployment> {
  const form = new FormData();
  form.append(
    "metadata",
    JSON.stringify({
      // The key or the path names project and environment; the field is always sent (contract 9.1).
      project_id: "",
      content_hash: archive.contentHash,
      api_version: apiVersion,
      cli_version: cliVersion,
      bundle_format_version: bundleFormatVersion,
      worker_protocol_version: workerProtocolVersion,
    }),
  );
  form.append(
    "deployment_source",
    await openAsBlob(file, { type: "application/x-tar" }),
    "deployment-source.tar",
  );
  return api.send("POST", "/deployments", { form, schema: "deployment", timeoutMs: uploadTimeoutMs });
}
