#!/usr/bin/env node
// Starts the command. Plain JavaScript, so that a Node too old for the TypeScript sources can still say so.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  console.error(`error: helmr needs Node 24 or newer, this is ${process.version}`);
  console.error(
    "hint: install Node 24 (https://nodejs.org), or use `npm run helmr -- …` in a clone, which fetches it",
  );
  process.exit(2);
}
await import("../src/main.ts");
