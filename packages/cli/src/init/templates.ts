/** The files of a new task project. */
import { cliVersion } from "../version.ts";

export interface ProjectNames {
  /** Name in package.json. */
  readonly name: string;
  /** Slug of the Helmr project. */
  readonly project: string;
}

/** Path to text. */
export function projectFiles({ name, project }: ProjectNames): Record<string, string> {
  return {
    "package.json": json({
      name,
      version: "0.0.0",
      private: true,
      type: "module",
      packageManager: "npm@11.0.0",
      dependencies: { "@helmr/sdk": `^${cliVersion}` },
    }),
    "helmr.config.ts": `import { defineConfig } from "@helmr/sdk";

export default defineConfig({
  project: ${JSON.stringify(project)},
  dirs: ["tasks"],
});
`,
    "tasks/hello.ts": helloTask,
    "tsconfig.json": json({
      compilerOptions: {
        target: "es2024",
        lib: ["es2024", "dom"],
        module: "nodenext",
        noEmit: true,
        strict: true,
        allowImportingTsExtensions: true,
        erasableSyntaxOnly: true,
        skipLibCheck: true,
      },
      include: ["helmr.config.ts", "tasks"],
    }),
    ".gitignore": "node_modules\n.helmr\n.env\n.env.*\n",
  };
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

const helloTask = `import { image, logger, metadata, type PayloadSchema, sandbox, task } from "@helmr/sdk";

// The Linux sandbox that the task runs in: its image, and the folder that lasts.
const box = sandbox("hello")
  .image(image("hello").from("node:24-bookworm-slim"))
  .workspace("/workspace");

// Any Standard Schema does: zod, valibot, or one written by hand, as here.
const greeting: PayloadSchema<{ name?: string }, { name: string }> = {
  "~standard": {
    version: 1,
    vendor: "hello",
    validate: (value) => {
      const { name = "world" } = (value ?? {}) as { name?: unknown };
      return typeof name === "string" ? { value: { name } } : { issues: [{ message: "must be a string", path: ["name"] }] };
    },
  },
};

export const hello = task({
  id: "hello",
  sandbox: box,
  payload: greeting,
  run: async ({ name }, ctx) => {
    logger.info(\`Hello, \${name}!\`);
    metadata.set("greeted", name);
    return { greeting: \`Hello, \${name}!\`, workspace: ctx.workspace.path };
  },
});
`;
