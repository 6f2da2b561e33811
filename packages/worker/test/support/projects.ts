/** Small projects as file maps. */
import { baseImage, type Files } from "./bench.ts";

export const packageJson = (extra: Record<string, unknown> = {}): string =>
  JSON.stringify({
    name: "project",
    private: true,
    type: "module",
    packageManager: "npm@11.0.0",
    dependencies: { "@helmr/sdk": "^0.1.0" },
    ...extra,
  });

export const config =
  'import { defineConfig } from "@helmr/sdk";\nexport default defineConfig({ project: "demo", dirs: ["tasks"] });\n';

/** A project with one sandbox (`image` lines after the first) and these tasks by name. */
export function project(options: {
  image?: string;
  sandbox?: string;
  tasks: Readonly<Record<string, string>>;
  files?: Files;
  package?: Record<string, unknown>;
}): Files {
  const tasks = Object.entries(options.tasks).map(
    ([id, body]) =>
      `export const ${id} = task({ id: "${id}", sandbox: box, maxDuration: 60, run: async (ctx) => {\n${body}\n} });`,
  );
  const head = `import { image, logger, metadata, sandbox, source, cache, task } from "@helmr/sdk";\nvoid [logger, metadata, source, cache];\n`;
  const box = `const box = sandbox("box").image(image("main").from("${baseImage}")${options.image ?? ""})${options.sandbox ?? ""};\n`;
  return {
    "package.json": packageJson(options.package),
    "helmr.config.ts": config,
    "tasks/main.ts": `${head}${box}${tasks.join("\n")}\n`,
    ...options.files,
  };
}
