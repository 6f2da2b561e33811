import { describe, expect, it } from "vitest";
import { type CheckpointHost, type CheckpointRecord, checkpointRecord, isCompatible } from "./checkpoint.ts";
import { parseCpuInfo } from "./host/cpu.ts";

const host: CheckpointHost = {
  driver: "gvisor",
  driverVersion: "release-1",
  architecture: "x64",
  cpuFeaturesDigest: "aaaaaaaaaaaaaaaa",
  cpuVendor: "AuthenticAMD",
  cpuFeatures: ["avx", "avx2", "sse"],
};
const spec = {
  process: "0".repeat(16),
  mounts: "0".repeat(16),
  resources: "0".repeat(16),
  network: "0".repeat(16),
};
const record: CheckpointRecord = {
  format: 1,
  driver: "gvisor",
  driver_version: "release-1",
  architecture: "x64",
  cpu_features_digest: "aaaaaaaaaaaaaaaa",
  cpu_vendor: "AuthenticAMD",
  cpu_features: ["avx", "avx2", "sse"],
  root_digest: "root",
  spec,
  files: [{ name: "pages.img", size_bytes: 1, crc32: 2 }],
};

describe("isCompatible", () => {
  it("accepts the same host, and a processor that can more", () => {
    expect(isCompatible(record, host)).toEqual({ compatible: true });
    const more = {
      ...host,
      cpuFeaturesDigest: "b".repeat(16),
      cpuFeatures: [...host.cpuFeatures, "avx512f"],
    };
    expect(isCompatible(record, more)).toEqual({ compatible: true });
  });

  it.each<[string, Partial<CheckpointHost>, RegExp]>([
    ["another driver", { driver: "qemu" }, /driver gvisor; this worker has qemu/],
    ["another version", { driverVersion: "release-2" }, /release-1; this worker has release-2/],
    ["another architecture", { architecture: "arm64" }, /x64; this worker is arm64/],
    ["another vendor", { cpuFeaturesDigest: "b".repeat(16), cpuVendor: "GenuineIntel" }, /GenuineIntel/],
    [
      "a processor that can less",
      { cpuFeaturesDigest: "b".repeat(16), cpuFeatures: ["sse"] },
      /lacks .*avx, avx2/,
    ],
  ])("refuses %s and says why", (_, change, reason) => {
    expect(isCompatible(record, { ...host, ...change })).toEqual({
      compatible: false,
      reason: expect.stringMatching(reason),
    });
  });
});

it("refuses a record whose file name leads out of its folder", () => {
  expect(checkpointRecord.safeParse(record).success).toBe(true);
  for (const name of ["../pages.img", "/etc/passwd", "a/b", "", ".", ".."]) {
    const files = [{ name, size_bytes: 1, crc32: 2 }];
    expect(checkpointRecord.safeParse({ ...record, files }).success).toBe(false);
  }
});

describe("parseCpuInfo", () => {
  it("takes what all processors have", () => {
    const text =
      "processor: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: sse avx b\n\nprocessor: 1\nvendor_id\t: AuthenticAMD\nflags\t\t: avx sse\n";
    expect(parseCpuInfo(text)).toMatchObject({ vendor: "AuthenticAMD", features: ["avx", "sse"] });
  });

  it("reads arm64, and tells apart what differs", () => {
    const arm = (features: string) => parseCpuInfo(`CPU implementer\t: 0x41\nFeatures\t: ${features}\n`);
    expect(arm("fp asimd")).toMatchObject({ vendor: "0x41", features: ["asimd", "fp"] });
    expect(arm("fp asimd").digest).toBe(arm("asimd fp").digest);
    expect(arm("fp asimd").digest).not.toBe(arm("fp").digest);
  });
});
