/** What every step of every image of one build shares. */
import type { CatalogSandbox } from "@helmr/api";
import type { GuestResources, Isolation } from "@helmr/isolation";
import type { Logger } from "pino";
import type { CacheFolders } from "../caches.ts";
import type { CopyInputs } from "../catalog-cache.ts";
import type { BuildRegistry } from "../sdk-access.ts";
import type { LayerStore } from "./layer-store.ts";

export interface PreparedBuild {
  /** The build's copy of the source, prepared for the SDK registry; never mounted writable. */
  readonly sourceDir: string;
  readonly registry: BuildRegistry;
}

export interface ImageBuildContext {
  readonly isolation: Isolation;
  readonly layers: LayerStore;
  readonly imagesDir: string;
  readonly environmentId: string;
  /** Folder of this build alone, removed afterwards. */
  readonly scratchDir: string;
  /** The source and the build's registry, unpacked at the first call: an unchanged image needs neither. */
  readonly prepare: () => Promise<PreparedBuild>;
  /** What stands for a part of the source in a layer's key: remembered with the source, else asked of it. */
  readonly describeCopy: (what: string, describe: () => Promise<CopyInputs>) => Promise<CopyInputs>;
  readonly network: CatalogSandbox["network"];
  readonly networkDeny: readonly string[];
  readonly caches: CacheFolders;
  /** Values of the build secrets that the steps mount, by name. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Key of the marks that stand for secrets in layer keys. */
  readonly workerKey: Buffer;
  readonly resources: GuestResources;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Start of a step, for people. */
  readonly onStep: (text: string, attributes: Record<string, unknown>) => void;
  readonly onOutput: (line: string) => void;
}

/** An image as far as its steps were executed. */
export interface ImageState {
  readonly layers: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly user: string;
  readonly workdir: string;
}
