/** Rules and limits of tasks, queues and the configuration (contract 13.1 to 13.4, 13.8), at their boundaries. */
import { describe, expect, it } from "vitest";
import { defineConfig, image, queue, sandbox, task, validateSecretName } from "../index.ts";
import {
  configDefinition,
  isConfig,
  isSandbox,
  isTask,
  sandboxDefinition,
  taskDefinition,
} from "../internal.ts";

const base = image("base").from("node:24-bookworm-slim");
const box = sandbox("box").image(base);
const run = () => undefined;
/** A task with one option, of any type. */
const withOption = (option: Record<string, unknown>) =>
  taskDefinition(task({ id: "t", sandbox: box, run, ...option } as Parameters<typeof task>[0]));
const schema = (standard: unknown) => ({ "~standard": standard });

describe("task ids", () => {
  it.each(["a", "0", "A.b_c-d", `a${"x".repeat(127)}`])("accepts %s", (id) => {
    expect(withOption({ id }).id).toBe(id);
  });
  it.each(["", "-a", ".a", "_a", "a b", "a/b", "ä", `a${"x".repeat(128)}`, undefined, 5])(
    "refuses %s",
    (id) => {
      expect(() => withOption({ id })).toThrow(/^task\(\.\.\.\)\.id: must/);
    },
  );
});

describe("task options", () => {
  it("have the documented defaults", () => {
    expect(withOption({})).toEqual({
      id: "t",
      sandbox: sandboxDefinition(box),
      maxDurationSeconds: 900,
      queue: "task/t",
      ttl: undefined,
      retry: { enabled: false },
      secrets: [],
      hasPayload: false,
    });
  });
  it.each([5, 86400])("accept maxDuration %s", (maxDuration) => {
    expect(withOption({ maxDuration }).maxDurationSeconds).toBe(maxDuration);
  });
  it.each([4, 86401, 5.5, Number.NaN, "60", null])("refuse maxDuration %s", (maxDuration) => {
    expect(() => withOption({ maxDuration })).toThrow(
      'task("t").maxDuration: must be a whole number of seconds from 5 to 86400',
    );
  });
  it.each(["schedule", "streams"])("refuse %s", (key) => {
    expect(() => withOption({ [key]: {} })).toThrow(`task("t").${key}: is not an option of task`);
  });
  it.each(["maxduration", "name", "machine", "onFailure", "constructor"])(
    "refuse the unknown key %s",
    (key) => {
      expect(() => withOption({ [key]: 1 })).toThrow(
        `task("t"): unknown key "${key}"; known keys: id, sandbox, maxDuration, queue, ttl, retry, secrets, payload, run`,
      );
    },
  );
  it("take an unknown key without a value for absent", () => {
    expect(() => withOption({ onFailure: undefined })).not.toThrow();
  });
  it.each([undefined, null, {}, base, "box"])("refuse sandbox %s", (given) => {
    expect(() => withOption({ sandbox: given })).toThrow(
      'task("t").sandbox: is required and must be a sandbox("id")',
    );
  });
  it("report a sandbox without an image when the task is compiled, not before", () => {
    const bare = task({ id: "t", sandbox: sandbox("bare"), run });
    expect(() => taskDefinition(bare)).toThrow('task("t").sandbox: sandbox("bare"): has no image');
  });
  it.each([undefined, null, "run", {}])("refuse run %s", (given) => {
    expect(() => withOption({ run: given })).toThrow('task("t").run: is required');
  });
  it.each([
    null,
    {},
    schema(undefined),
    schema(null),
    schema({ version: 2, validate: run }),
    schema({ version: 1 }),
    schema({ version: 1, validate: "no" }),
  ])("refuse payload %#", (payload) => {
    expect(() => withOption({ payload })).toThrow('task("t").payload: must be a Standard Schema v1');
  });
  it("accept a schema that is a function", () => {
    const callable = Object.assign(() => true, schema({ version: 1, vendor: "x", validate: run }));
    expect(withOption({ payload: callable }).hasPayload).toBe(true);
  });
  it.each([null, "task", 5, []])("refuse the configuration %s", (config) => {
    expect(() => task(config as never)).toThrow("task(...): must be an object");
  });
});

describe("ttl", () => {
  it.each(["300ms", "1.5h", "2h45m", "7d", "1ns", "5us", "5µs", "5μs", ".5s", "1.s", "1h1h"])(
    "accepts %s",
    (ttl) => {
      expect(withOption({ ttl }).ttl).toBe(ttl);
    },
  );
  it.each([
    "",
    "0s",
    "0d",
    "-5s",
    "+5s",
    "5",
    "1.5d",
    "1d2h",
    "5 s",
    " 5s",
    "5S",
    "1w",
    ".s",
    "300000d",
    5,
    null,
  ])("refuses %s", (ttl) => {
    expect(() => withOption({ ttl })).toThrow('task("t").ttl: must be a duration greater than zero');
  });
});

describe("retry", () => {
  it.each([
    { enabled: false },
    { maxAttempts: 1 },
    { enabled: true, maxAttempts: 10 },
    { maxAttempts: 3, backoff: {} },
    { maxAttempts: 3, backoff: { minMs: 1, maxMs: 2, factor: 0.5, jitter: "none" } },
  ])("accepts %j", (retry) => {
    expect(withOption({ retry }).retry).toEqual(retry);
  });
  it("treats undefined as absent", () => {
    expect(withOption({ retry: { enabled: false, maxAttempts: undefined } }).retry).toEqual({
      enabled: false,
    });
    expect(withOption({ retry: { maxAttempts: 2, backoff: undefined } }).retry).toEqual({ maxAttempts: 2 });
  });
  it.each([
    [null, "retry: must be an object"],
    [[], "retry: must be an object"],
    [{}, "retry.maxAttempts: must be a whole number from 1 to 10, got nothing"],
    [{ maxAttempts: 0 }, "retry.maxAttempts"],
    [{ maxAttempts: 11 }, "retry.maxAttempts"],
    [{ maxAttempts: 1.5 }, "retry.maxAttempts"],
    [{ maxAttempts: 3, attempts: 3 }, 'retry: unknown key "attempts"'],
    [{ enabled: false, maxAttempts: 3 }, 'retry with enabled: false: unknown key "maxAttempts"'],
    [{ enabled: "yes", maxAttempts: 3 }, "retry.enabled: must be true or false"],
    [{ maxAttempts: 3, backoff: { min: 1 } }, 'retry.backoff: unknown key "min"'],
    [
      { maxAttempts: 3, backoff: { minMs: 0 } },
      "retry.backoff.minMs: must be a whole number of milliseconds",
    ],
    [{ maxAttempts: 3, backoff: { maxMs: 1.5 } }, "retry.backoff.maxMs"],
    [{ maxAttempts: 3, backoff: { factor: 0 } }, "retry.backoff.factor: must be a number greater than zero"],
    [{ maxAttempts: 3, backoff: { factor: Number.POSITIVE_INFINITY } }, "retry.backoff.factor"],
    [{ maxAttempts: 3, backoff: { jitter: "half" } }, 'retry.backoff.jitter: must be "none" or "full"'],
  ])("refuses %j", (retry, message) => {
    expect(() => withOption({ retry })).toThrow(`task("t").${message}`);
  });
});

describe("secrets", () => {
  it("are brought into the catalog's form", () => {
    const secrets = [
      { name: "TOKEN", env: "_Token1" },
      { name: "TOKEN", file: "/etc//keys/token/" },
      { name: "a.b-c_D", dir: "secrets", mode: "640", owner: "node" },
      { name: "n", file: "rel/./path", mode: 0o777 },
    ];
    expect(withOption({ secrets }).secrets).toEqual([
      { kind: "env", name: "TOKEN", env: "_Token1" },
      { kind: "file", name: "TOKEN", path: "/etc/keys/token", mode: "0400" },
      { kind: "dir", name: "a.b-c_D", path: "secrets", mode: "0640", owner: "node" },
      { kind: "file", name: "n", path: "rel/path", mode: "0777" },
    ]);
  });
  it.each([
    [{ name: "A" }, "secrets[0]: needs exactly one of env, file and dir, got none"],
    [
      { name: "A", env: "A", file: "/a" },
      "secrets[0]: needs exactly one of env, file and dir, got env and file",
    ],
    [{ name: "", env: "A" }, "secrets[0].name: must not be empty"],
    [{ name: "-A", env: "A" }, "secrets[0].name: must match"],
    [{ name: "A", env: "1A" }, "secrets[0].env: must match"],
    [{ name: "A", env: "A-B" }, "secrets[0].env: must match"],
    [{ name: "A", env: "A", mode: "0400" }, 'secrets[0]: unknown key "mode"'],
    [{ name: "A", file: "/a", mode: "1000" }, 'secrets[0].mode: must be an octal mode up to "0777"'],
    [{ name: "A", file: "/a", mode: "0o400" }, "secrets[0].mode"],
    [{ name: "A", file: "/a", mode: "888" }, "secrets[0].mode"],
    [{ name: "A", file: "/a", mode: 0o1000 }, "secrets[0].mode"],
    [{ name: "A", file: "/a", mode: -1 }, "secrets[0].mode"],
    [{ name: "A", file: "/a", owner: "a b" }, "secrets[0].owner: must be a user of the image"],
    [{ name: "A", file: " /a" }, "secrets[0].file: must not start or end with space"],
    [{ name: "A", file: "/a " }, "secrets[0].file: must not start or end with space"],
    [{ name: "A", file: "." }, "secrets[0].file: must name a file or folder"],
    [{ name: "A", dir: "/" }, "secrets[0].dir: must name a file or folder"],
    [{ name: "A", dir: "/a/../b" }, 'secrets[0].dir: must not contain ".."'],
    [{ name: "A", file: "/a\0b" }, "secrets[0].file: must not contain a NUL"],
    ["A", "secrets[0]: must be an object"],
  ])("refuses %j", (secret, message) => {
    expect(() => withOption({ secrets: [secret] })).toThrow(`task("t").${message}`);
  });
  it.each([
    [
      { name: "A", env: "X" },
      { name: "B", env: "X" },
    ],
    [
      { name: "A", file: "/x/y" },
      { name: "B", file: "/x//y" },
    ],
    [
      { name: "A", dir: "/x" },
      { name: "A", dir: "/x/" },
    ],
    [
      { name: "A", dir: "/x" },
      { name: "B", file: "/x/A" },
    ],
  ])("refuses two for one place: %j %j", (first, second) => {
    expect(() => withOption({ secrets: [first, second] })).toThrow(
      /secrets\[1\]: duplicate of task\("t"\)\.secrets\[0\]/,
    );
  });
  it("refuses what is no array", () => {
    expect(() => withOption({ secrets: { name: "A", env: "A" } })).toThrow(
      'task("t").secrets: must be an array',
    );
  });
});

describe("validateSecretName", () => {
  it.each(["A", "0", "a.b-c_d", `a${"x".repeat(127)}`])("accepts %s", (name) => {
    expect(validateSecretName(name)).toBe(name);
  });
  it.each(["", ".a", "-a", "_a", "a b", "a/b", `a${"x".repeat(128)}`])("refuses %s", (name) => {
    expect(() => validateSecretName(name)).toThrow("secret name: must");
  });
});

describe("queues", () => {
  it("may be given as an object or by id", () => {
    expect(withOption({ queue: queue({ id: "reports", concurrencyLimit: 2 }) }).queue).toBe("reports");
    expect(withOption({ queue: "reports" }).queue).toBe("reports");
  });
  it.each(["a", "team/reports", `q${"x".repeat(255)}`])("accept the id %s", (id) => {
    expect(queue({ id }).id).toBe(id);
  });
  it.each(["", "/a", "a b", `q${"x".repeat(256)}`, undefined, 1])("refuse the id %s", (id) => {
    expect(() => queue({ id } as never)).toThrow("queue(...).id: must");
  });
  it.each([1, 1000, null, undefined])("accept the limit %s", (concurrencyLimit) => {
    expect(queue({ id: `limit-${concurrencyLimit}`, concurrencyLimit }).concurrencyLimit).toBe(
      concurrencyLimit ?? null,
    );
  });
  it.each([0, -1, 1.5, "2", Number.POSITIVE_INFINITY])("refuse the limit %s", (concurrencyLimit) => {
    expect(() => queue({ id: "q", concurrencyLimit } as never)).toThrow(
      'queue("q").concurrencyLimit: must be',
    );
  });
  it.each(["", "/a", 5, null, {}])("refuse %s as a task's queue", (given) => {
    expect(() => withOption({ queue: given })).toThrow('task("t").queue: must');
  });
});

describe("defineConfig", () => {
  it("keeps what it was given", () => {
    const config = defineConfig({ project: "demo", dirs: ["tasks", "./more/"], ignorePatterns: ["**/*.md"] });
    expect(configDefinition(config)).toEqual({
      project: "demo",
      dirs: ["tasks", "more"],
      ignorePatterns: ["**/*.md"],
    });
    expect(config).toMatchObject({ project: "demo", dirs: ["tasks", "more"] });
    expect(Object.isFrozen(config)).toBe(true);
    expect(configDefinition(defineConfig({ project: "p", dirs: ["."] }))).toEqual({
      project: "p",
      dirs: ["."],
    });
  });
  it.each([
    [{ dirs: ["a"] }, "project: must be a string, got nothing"],
    [{ project: "", dirs: ["a"] }, "project: must not be empty"],
    [{ project: " ", dirs: ["a"] }, "project: must not be blank"],
    [{ project: "a\0", dirs: ["a"] }, "project: must not contain a NUL"],
    [{ project: "p" }, "dirs: must be an array"],
    [{ project: "p", dirs: [] }, "dirs: must name at least one folder"],
    [{ project: "p", dirs: [""] }, "dirs[0]: must not be empty"],
    [{ project: "p", dirs: ["a", "/b"] }, "dirs[1]: must be relative"],
    [{ project: "p", dirs: ["../a"] }, "dirs[0]: must stay inside"],
    [{ project: "p", dirs: ["a"], ignorePatterns: "x" }, "ignorePatterns: must be an array"],
    [{ project: "p", dirs: ["a"], ignorePatterns: [5] }, "ignorePatterns[0]: must be a string"],
  ])("refuses %j", (config, message) => {
    expect(() => defineConfig(config as never)).toThrow(`defineConfig(...).${message}`);
  });
  it("names unknown keys", () => {
    expect(() => defineConfig({ project: "p", dirs: ["a"], dir: "b" } as never)).toThrow('unknown key "dir"');
  });
});

describe("brands", () => {
  it("tell authored objects from everything else", () => {
    const made = task({ id: "t", sandbox: box, run });
    expect([isTask(made), isSandbox(box), isConfig(defineConfig({ project: "p", dirs: ["a"] }))]).toEqual([
      true,
      true,
      true,
    ]);
    for (const other of [undefined, null, 5, "x", {}, [], () => 1, base, { id: "t" }]) {
      expect([isTask(other), isSandbox(other), isConfig(other)]).toEqual([false, false, false]);
    }
    expect(isSandbox(made)).toBe(false);
  });
});
