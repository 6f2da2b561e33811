/**
 * From loaded modules to the catalog, with every problem found and not only the first.
 *
 *  K1  A problem names file, export and field.
 *  K2  The same input gives the same catalog: files, exports and ids in sorted order.
 */
import { isDeepStrictEqual } from "node:util";
import type { Catalog, CatalogSandbox, CatalogTask } from "@helmr/api";
import type * as Sdk from "@helmr/sdk/internal";

/** Contract 13.10, and `invalid_definition` for everything that loads but may not be deployed. */
export type IndexFailureKind =
  | "missing_config"
  | "task_parse_failed"
  | "duplicate_task_id"
  | "task_not_found"
  | "invalid_definition";
export interface Problem {
  readonly kind: IndexFailureKind;
  readonly text: string;
}
export interface LoadedModule {
  /** POSIX, relative to the source root. */
  readonly file: string;
  readonly exports: Readonly<Record<string, unknown>>;
}
interface Found<T> {
  readonly value: T;
  /** `tasks/hello.ts: export "hello"`. */
  readonly where: string;
}

/** Build the catalog; `problems` empty means that it may be deployed. */
export function collectCatalog(
  project: string,
  modules: readonly LoadedModule[],
  sdk: typeof Sdk,
): { readonly catalog: Catalog; readonly problems: readonly Problem[] } {
  const collector = new Collector(sdk);
  for (const module of modules) collector.add(module);
  return collector.finish(project);
}

class Collector {
  readonly #sdk: typeof Sdk;
  readonly #problems: Problem[] = [];
  readonly #tasks = new Map<string, Found<CatalogTask>>();
  readonly #sandboxes = new Map<string, Found<CatalogSandbox>>();
  /** A task exported twice (an index file that re-exports) is one task. */
  readonly #seen = new Set<unknown>();

  constructor(sdk: typeof Sdk) {
    this.#sdk = sdk;
  }

  add(module: LoadedModule): void {
    for (const name of Object.keys(module.exports).sort()) {
      const value = module.exports[name];
      const where = `${module.file}: export "${name}"`;
      if (this.#sdk.isTask(value)) this.#addTask(value, module.file, name, where);
      else if (this.#sdk.isSandbox(value) && !this.#seen.has(value)) {
        this.#seen.add(value);
        this.#try(where, () => this.#addSandbox(this.#sdk.sandboxDefinition(value), where));
      }
    }
  }

  finish(project: string): { catalog: Catalog; problems: Problem[] } {
    const queues = this.#queues();
    if (this.#tasks.size === 0 && this.#problems.length === 0) {
      this.#problem(
        "task_not_found",
        "No task was found: export one by name from a file in the dirs of helmr.config.ts (export const hello = task({ ... })).",
      );
    }
    const catalog: Catalog = {
      format: 2,
      project,
      tasks: sortedById([...this.#tasks.values()].map((found) => found.value)),
      queues,
      sandboxes: sortedById([...this.#sandboxes.values()].map((found) => found.value)),
      streams: this.#streams(),
    };
    return { catalog, problems: this.#problems };
  }

  #addTask(value: unknown, file: string, name: string, where: string): void {
    if (name === "default") {
      this.#problem(
        "invalid_definition",
        `${file}: the default export is a task; export it by name (export const ${suggestedName(value)} = task(...)).`,
      );
      return;
    }
    if (this.#seen.has(value)) return;
    this.#seen.add(value);
    this.#try(where, () => {
      const entry = this.#sdk.catalogTaskEntry(value, file, name) as CatalogTask;
      const earlier = this.#tasks.get(entry.id);
      if (earlier !== undefined) {
        this.#problem(
          "duplicate_task_id",
          `${where}: id: the task id "${entry.id}" is used by ${earlier.where} already; give each task its own id.`,
        );
        return;
      }
      this.#tasks.set(entry.id, { value: entry, where });
      this.#addSandbox(this.#sdk.taskDefinition(value).sandbox, where);
    });
  }

  #addSandbox(definition: CatalogSandbox, where: string): void {
    const earlier = this.#sandboxes.get(definition.id);
    if (earlier === undefined) this.#sandboxes.set(definition.id, { value: definition, where });
    else if (!isDeepStrictEqual(earlier.value, definition)) {
      this.#problem(
        "invalid_definition",
        `${where}: sandbox: the sandbox "${definition.id}" is defined differently by ${earlier.where}; ` +
          "define it once and import it, or use another id.",
      );
    }
  }

  /** Declared queues and the tasks' own default ones; every other name is a problem. */
  #queues(): Catalog["queues"] {
    const before = this.#problems.length;
    let queues: Catalog["queues"] = [];
    this.#try("queues", () => {
      queues = this.#sdk.queueDefinitions();
    });
    // What is declared is unknown then; that a task names one of them is no problem of its own.
    if (this.#problems.length > before) return queues;
    const known = new Set(queues.map((queue) => queue.id));
    for (const { value: task, where } of this.#tasks.values()) {
      if (known.has(task.queue)) continue;
      if (task.queue === `task/${task.id}`) queues.push({ id: task.queue, concurrency_limit: null });
      else {
        this.#problem(
          "invalid_definition",
          `${where}: queue: no queue "${task.queue}" is declared; declare it with queue({ id: "${task.queue}" }) ` +
            "in a file that is loaded.",
        );
      }
    }
    return sortedById(queues);
  }

  #streams(): Catalog["streams"] {
    let streams: Catalog["streams"] = [];
    this.#try("streams", () => {
      streams = this.#sdk.streamDefinitions();
    });
    return streams;
  }

  #try(where: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#problem(
        "invalid_definition",
        `${where}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  #problem(kind: IndexFailureKind, text: string): void {
    this.#problems.push({ kind, text });
  }
}

function sortedById<T extends { readonly id: string }>(entries: readonly T[]): T[] {
  return entries.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

function suggestedName(task: unknown): string {
  const { id } = task as { id: string };
  const name = id.replace(/[^A-Za-z0-9]+(.)?/g, (_, next: string | undefined) => (next ?? "").toUpperCase());
  return /^[A-Za-z]/.test(name) ? name : `task${name}`;
}
