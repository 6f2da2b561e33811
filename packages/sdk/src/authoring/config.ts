/** `defineConfig` (contract 13.8): the default export of `helmr.config.ts`. */
import { branded, configBrand } from "../brand.ts";
import { expectKeys, expectObject, expectSourcePath, expectText, expectTextList, fail } from "./checks.ts";

export interface HelmrConfigInput {
  /** Slug or id of the project that `helmr deploy` uploads to. */
  readonly project: string;
  /** Folders with task files, relative to helmr.config.ts. */
  readonly dirs: readonly string[];
  /** Globs of files that are neither uploaded nor loaded; default tests and files starting with `_`. */
  readonly ignorePatterns?: readonly string[] | undefined;
}
export interface ConfigDefinition {
  project: string;
  dirs: string[];
  ignorePatterns?: string[];
}
export interface HelmrConfig {
  readonly project: string;
  readonly dirs: readonly string[];
  readonly ignorePatterns?: readonly string[];
  readonly [configBrand]: ConfigDefinition;
}

/** Checks and freezes the project's configuration. Throws a TypeError naming the field. */
export function defineConfig(config: HelmrConfigInput): HelmrConfig {
  const where = "defineConfig(...)";
  const given = expectObject(config, where, '{ project: "my-project", dirs: ["tasks"] }');
  expectKeys(given, ["project", "dirs", "ignorePatterns"], where);
  const project = expectText(given.project, `${where}.project`);
  if (project.trim() === "") fail(`${where}.project`, "must not be blank");
  const dirs = expectTextList(given.dirs, `${where}.dirs`);
  if (dirs.length === 0) fail(`${where}.dirs`, 'must name at least one folder with tasks, such as ["tasks"]');
  const definition: ConfigDefinition = {
    project,
    dirs: dirs.map((dir, index) => expectSourcePath(dir, `${where}.dirs[${index}]`)),
  };
  if (given.ignorePatterns !== undefined) {
    definition.ignorePatterns = expectTextList(given.ignorePatterns, `${where}.ignorePatterns`);
  }
  return Object.freeze({ ...definition, [configBrand]: definition });
}

/** Whether `value` came from `defineConfig` of any copy of the SDK. */
export function isConfig(value: unknown): value is HelmrConfig {
  return branded(value, configBrand) !== undefined;
}

/** Plain data of a configuration. Throws a TypeError when `value` is none. */
export function configDefinition(value: unknown): ConfigDefinition {
  const definition = branded<ConfigDefinition>(value, configBrand);
  if (definition === undefined) {
    fail("helmr.config.ts", 'must export default defineConfig({ project: "...", dirs: ["tasks"] })');
  }
  return structuredClone(definition);
}
