/** `npm run build`: the publishable package in `dist/`; pack or publish that folder (`npm pack ./dist`). */
import { fileURLToPath } from "node:url";
import { buildSdkPackage } from "./package.ts";

const outDir = fileURLToPath(new URL("../dist", import.meta.url));
const { name, version, contentHash } = await buildSdkPackage(outDir);
console.log(`${name} ${version} (${contentHash.slice(0, 12)}) is in ${outDir}`);
