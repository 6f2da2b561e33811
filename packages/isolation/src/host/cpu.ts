/** What the processors of this host can do: a guest's memory may hold code that was chosen by it. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

export interface CpuFeatures {
  readonly vendor: string;
  readonly features: readonly string[];
  /** 16 digits over both. */
  readonly digest: string;
}

/** Features that every processor has, since a guest's threads move between them. */
export async function cpuFeatures(): Promise<CpuFeatures> {
  return parseCpuInfo(await readFile("/proc/cpuinfo", "utf8"));
}

/** x86: `vendor_id` and `flags`; arm64: `CPU implementer` and `Features`. */
export function parseCpuInfo(text: string): CpuFeatures {
  const values = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}\\s*:\\s*(.*)$`, "gm"))].map(([, value = ""]) => value.trim());
  const vendor = [...new Set([...values("vendor_id"), ...values("CPU implementer")])].sort().join("+");
  const sets = [...values("flags"), ...values("Features")].map((list) => new Set(list.split(/\s+/)));
  const [first = new Set<string>(), ...others] = sets;
  const features = [...first].filter((feature) => others.every((set) => set.has(feature))).sort();
  const digest = createHash("sha256")
    .update(`${vendor}\n${features.join("\n")}`)
    .digest("hex")
    .slice(0, 16);
  return { vendor, features, digest };
}
