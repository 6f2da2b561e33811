#!/usr/bin/env node
// Starts the process. Plain JavaScript, so that a Node too old for the TypeScript sources can still say so.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  console.error(`helmr-dispatcher: needs Node 24 or newer, this is ${process.version}`);
  process.exit(2);
}
await import("../src/process/main.ts");
