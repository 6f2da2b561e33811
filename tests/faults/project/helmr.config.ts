import { defineConfig } from "@helmr/sdk";

export default defineConfig({ project: "default", dirs: ["tasks"] });
