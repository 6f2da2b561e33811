import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { createProgram } from "./program.ts";

const program = await createProgram();
const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];
const path = (command: Command): string =>
  command.parent ? `${path(command.parent)} ${command.name()}` : command.name();

describe.each(all(program).map((command) => [path(command), command] as const))(
  "%s --help",
  (name, command) => {
    it("says what it does and shows an example of itself", () => {
      let help = "";
      command.configureOutput({ writeOut: (text) => (help += text) });
      command.outputHelp();
      expect(command.description()).toMatch(/\.$/);
      expect(help).toMatch(/Examples?:\n|Start here:\n/);
      const examples = help.split("\n").filter((line) => /^ {2}\$ /.test(line));
      expect(
        examples.some(
          (line) => line.includes(name) || (command.commands.length > 0 && line.includes("helmr ")),
        ),
      ).toBe(true);
    });

    it("describes every option", () => {
      for (const option of command.options) expect(option.description, option.flags).not.toBe("");
    });
  },
);

describe("commands that talk to the server", () => {
  const local = new Set([
    "helmr dev",
    "helmr init",
    "helmr completion",
    "helmr version",
    "helmr host list",
    "helmr host use",
    "helmr host remove",
  ]);
  const leaves = all(program).filter((command) => command.commands.length === 0 && !local.has(path(command)));
  it.each(leaves.map((command) => [path(command), command] as const))(
    "%s takes --api-url and --json",
    (_name, command) => {
      const flags = command.options.map((option) => option.long);
      expect(flags).toEqual(expect.arrayContaining(["--api-url", "--json"]));
    },
  );

  const ofEnvironment = new Set([
    "deploy",
    "task",
    "session",
    "run",
    "deployment",
    "sandbox",
    "secret",
    "workspace",
    "api-key",
  ]);
  it.each(
    leaves
      .filter((command) => ofEnvironment.has(path(command).split(" ")[1] ?? ""))
      .map((command) => [path(command), command] as const),
  )("%s takes --project and --env", (_name, command) => {
    const flags = command.options.map((option) => option.long);
    expect(flags).toEqual(expect.arrayContaining(["--project", "--env"]));
  });
});
