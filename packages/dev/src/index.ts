export { defaultDataDir } from "./data-folder.ts";
export { type DevStack, type DevStackOptions, startDevStack } from "./stack.ts";
export { StartError } from "./start-error.ts";
