/** Layers in the artifact store, so that every worker has what one has built: a tar in pax format, compressed by zstd. */
import { pipeline as chain, Readable } from "node:stream";
import { constants, createZstdCompress, createZstdDecompress } from "node:zlib";
import type { ArtifactStore } from "@helmr/artifacts";
import { captureTree, restoreTree } from "@helmr/artifacts/archive";

/** More than any disk of a sandbox may have. */
const maxLayerBytes = 256 * 1024 ** 3;
/** Measured on layers of npm packages: higher levels take twice the time for 3 % less. */
const compressionLevel = 3;

/** Store the layer's folder: whiteouts, owners, modes, times, links and extended attributes included. Its digest. */
export async function storeLayer(artifacts: ArtifactStore, folder: string): Promise<string> {
  const compress = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel },
  });
  const stream = chain(Readable.from(captureTree(folder), { objectMode: false }), compress, () => undefined);
  const { digest } = await artifacts.put(stream, { maxBytes: maxLayerBytes });
  return digest;
}

/** Unpack a stored layer into an empty folder. Rejects when the bytes are not the digest's: what was written is no layer. */
export async function fetchLayer(artifacts: ArtifactStore, digest: string, folder: string): Promise<void> {
  const source = await artifacts.get(digest);
  const decompress = createZstdDecompress();
  const content = chain(source, decompress, () => undefined);
  await restoreTree(content, folder); // It reads to the end, where the store tells whether the bytes were right.
}
