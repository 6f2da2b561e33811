import { readConfig } from "@helmr/process";
import { expect, it } from "vitest";
import { capacityOf, workerVariables } from "./variables.ts";

const needed = {
  HELMR_CONTROL_PLANE_URL: "https://helmr.example.com",
  HELMR_WORKER_BOOTSTRAP_TOKEN: "t".repeat(64),
  HELMR_CAS_URI: "file:///artifacts",
  HELMR_WORKER_DATA_DIR: "/data",
  HELMR_RUNSC_PATH: "/runsc",
  HELMR_IMAGES_DIR: "/images",
  HELMR_ARTIFACT_ENCRYPTION_KEY: Buffer.alloc(32, 2).toString("base64"),
  HELMR_CHECKPOINT_ENCRYPTION_KEY: Buffer.alloc(32, 1).toString("base64"),
};
const read = (more: Record<string, string> = {}) => readConfig(workerVariables, { ...needed, ...more });

it("capacity: what is set, in one unit; the rest is measured", () => {
  expect(capacityOf(read())).toEqual({});
  const set = {
    HELMR_WORKER_SLOTS: "3",
    HELMR_WORKER_CPU: "16",
    HELMR_WORKER_MEMORY: "24GiB",
    HELMR_WORKER_DISK: "2TiB",
  };
  expect(capacityOf(read(set))).toEqual({ runs: 3, cpu: 16, memoryMib: 24_576, diskMib: 2 * 1024 ** 2 });
  for (const wrong of ["24", "24G", "0GiB", "1.5GiB", "-1GiB"])
    expect(() => read({ HELMR_WORKER_MEMORY: wrong })).toThrow("HELMR_WORKER_MEMORY: must be a size like");
  expect(() => read({ HELMR_WORKER_SLOTS: "0" })).toThrow("HELMR_WORKER_SLOTS");
});

it("labels: pairs, each key once", () => {
  expect(read({ HELMR_WORKER_LABELS: "zone=a, helmr.dev/disk=nvme,empty=" }).HELMR_WORKER_LABELS).toEqual({
    zone: "a",
    "helmr.dev/disk": "nvme",
    empty: "",
  });
  for (const wrong of ["zone", "a=1,a=2", "=x", "a=b=c", "a=b c", ",", `a=${"x".repeat(64)}`])
    expect(() => read({ HELMR_WORKER_LABELS: wrong }), wrong).toThrow("HELMR_WORKER_LABELS: must look like");
});

it("drain and rotation have times", () => {
  expect(read()).toMatchObject({
    HELMR_WORKER_DRAIN_TIMEOUT: 30_000,
    HELMR_WORKER_CREDENTIAL_ROTATION: 24 * 3_600_000,
  });
  expect(read({ HELMR_WORKER_DRAIN_TIMEOUT: "0s" }).HELMR_WORKER_DRAIN_TIMEOUT).toBe(0);
});
