import { defineConfig } from "@helmr/sdk";

export default defineConfig({
  project: "default",
  dirs: ["tasks"],
  // The default leaves out every *.test.*; the project that the agent works on brings tests that it runs.
  ignorePatterns: ["agent/**/*.test.ts"],
});
