/** References into the deployed source, and named build caches (contract 13.5). */
import { cacheBrand, sourceBrand } from "../brand.ts";
import { expectObject, expectPattern, expectSourcePath, expectTextList, fail, idPattern } from "./checks.ts";

export type SourceDefinition =
  | { kind: "file"; path: string }
  | { kind: "directory"; path: string; ignore?: string[] | undefined };

export interface SourceRef {
  readonly kind: "file" | "directory";
  readonly path: string;
  readonly [sourceBrand]: SourceDefinition;
}
export interface SourceDirectoryOptions {
  /** Glob patterns, relative to the folder, of what is left out. */
  readonly ignore?: readonly string[] | undefined;
}

/** Parts of the project that image steps copy; paths are relative to the folder of `helmr.config.ts`. */
export const source = Object.freeze({
  /** One file of the deployed source. */
  file(path: string): SourceRef {
    const checked = expectSourcePath(path, "source.file(path)");
    if (checked === ".")
      fail("source.file(path)", 'must name a file; for a folder write source.directory(".")');
    return ref({ kind: "file", path: checked });
  },
  /** A folder of the deployed source with everything in it; `.` is the whole source. */
  directory(path: string, options: SourceDirectoryOptions = {}): SourceRef {
    const checked = expectSourcePath(path, "source.directory(path)");
    const { ignore } = expectObject(options, "source.directory(path, options)", '{ ignore: ["*.md"] }');
    if (ignore === undefined) return ref({ kind: "directory", path: checked });
    return ref({
      kind: "directory",
      path: checked,
      ignore: expectTextList(ignore, "source.directory(path).ignore"),
    });
  },
});

function ref(definition: SourceDefinition): SourceRef {
  return Object.freeze({ kind: definition.kind, path: definition.path, [sourceBrand]: definition });
}

/** A folder kept between builds under this id; mounted by `image.run(argv, {cache: [...]})`, one build at a time. */
export interface Cache {
  readonly id: string;
  readonly [cacheBrand]: { id: string };
}

/** Names a build cache. */
export function cache(id: string): Cache {
  const checked = expectPattern(id, idPattern, "cache(id)");
  return Object.freeze({ id: checked, [cacheBrand]: { id: checked } });
}
