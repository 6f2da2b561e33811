/**
 * What the scripted model does. It knows two instructions, and takes their steps one after the other; the tools it asks for
 * are really used, and what it says in the end depends on how the tests really ended.
 */
import type { Answer, Message } from "../agent/model.ts";

interface Step {
  readonly thought: string;
  readonly tool: string;
  readonly input: Readonly<Record<string, unknown>>;
}
interface Scenario {
  readonly pattern: RegExp;
  readonly steps: readonly Step[];
  readonly done: string;
}

const runTests: Omit<Step, "thought"> = {
  tool: "run_command",
  input: { argv: ["node", "--test", "--test-reporter=tap"] },
};
const write = (path: string, content: string): Omit<Step, "thought"> => ({
  tool: "write_file",
  input: { path, content },
});

const titleCase = `/** Every word with a capital first letter. */
export function titleCase(text) {
  return text.replace(/\\S+/g, (word) => word[0].toUpperCase() + word.slice(1));
}
`;
const slugify = `${titleCase}
/** For addresses: lower case, words joined by hyphens. */
export function slugify(text) {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}
`;
const slugifyWithAccents = `${titleCase}
const spelledOut = { ä: "ae", ö: "oe", ü: "ue", ß: "ss" };

/** For addresses: lower case, words joined by hyphens, accents written as plain letters. */
export function slugify(text) {
  return text
    .toLowerCase()
    .replace(/[äöüß]/g, (letter) => spelledOut[letter])
    .normalize("NFD")
    .replace(/\\p{Mark}/gu, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}
`;
const slugifyTest = `import assert from "node:assert/strict";
import { test } from "node:test";
import { slugify } from "../src/text.js";

test("slugify joins lower-case words with hyphens", () => {
  assert.equal(slugify("  Hello, Big World! "), "hello-big-world");
});
`;
const accentsTest = `${slugifyTest}
test("slugify writes accents as plain letters", () => {
  assert.equal(slugify("Größe à la carte"), "groesse-a-la-carte");
});
`;

// The more specific one first: it names slugify, too.
const scenarios: readonly Scenario[] = [
  {
    pattern: /umlaut|accent/i,
    done: "slugify now writes umlauts and other accents as plain letters. The new test failed before the change.",
    steps: [
      { thought: "A test first.", ...write("test/slugify.test.js", accentsTest) },
      { thought: "It should fail.", ...runTests },
      {
        thought: "As expected. Now the function.",
        ...write("src/text.js", slugifyWithAccents),
      },
      { thought: "Again.", ...runTests },
    ],
  },
  {
    pattern: /slugify/i,
    done: "I added slugify to src/text.js, with a test in test/slugify.test.js.",
    steps: [
      { thought: "What is there?", tool: "list_files", input: {} },
      { thought: "The style to keep to.", tool: "read_file", input: { path: "src/text.js" } },
      { thought: "The function.", ...write("src/text.js", slugify) },
      { thought: "Its test.", ...write("test/slugify.test.js", slugifyTest) },
      { thought: "Do all tests pass?", ...runTests },
    ],
  },
];

/** The next message of the conversation. */
export function nextMessage(messages: readonly Message[]): Answer {
  const asked = messages.findLastIndex(({ role }) => role === "user");
  const instruction = messages[asked]?.content ?? "";
  const results = messages.slice(asked + 1).filter(({ role }) => role === "tool");
  const scenario = scenarios.find(({ pattern }) => pattern.test(instruction));
  if (scenario === undefined)
    return say(`I am a script. I know "add slugify" and "make slugify handle umlauts".`);
  const step = scenario.steps[results.length];
  if (step !== undefined) return use(step, `call_${asked}_${results.length}`);
  const tests = results.at(-1)?.content ?? "";
  const count = /^# pass (\d+)$/m.exec(tests)?.[1];
  return tests.startsWith("exit code 0")
    ? say(`${scenario.done} All ${count} tests pass.`)
    : say(`I made the change, but the tests fail:\n${tests}`);
}

function say(content: string): Answer {
  return { role: "assistant", content };
}

function use({ thought, tool, input }: Step, id: string): Answer {
  const call = { id, type: "function", function: { name: tool, arguments: JSON.stringify(input) } } as const;
  return { role: "assistant", content: thought, tool_calls: [call] };
}
