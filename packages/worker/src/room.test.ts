import { expect, it } from "vitest";
import { defaultCapacity, defaultDiskReserveMib } from "./options.ts";
import { Room } from "./room.ts";

const box = { cpu: 2, memory_mib: 1024, disk_mib: 4096 };
const capacity = { runs: 2, materializations: 1, cpu: 4, memoryMib: 8192, diskMib: 100_000 };

async function tried(room: Room, resources: typeof box, work: () => Promise<void>): Promise<boolean> {
  let refused = false;
  await room.hold(resources, work, async () => {
    refused = true;
  });
  return !refused;
}

it("holds what fits, refuses what does not in any one respect, and gives back also after a failure", async () => {
  const room = new Room(capacity);
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const first = room.hold(
    box,
    () => gate,
    async () => undefined,
  );
  expect(room.free).toEqual({ cpu: 2, memory_mib: 7168, disk_mib: 95_904, slots: 2 });
  const nothing = async () => undefined;
  expect(await tried(room, { ...box, cpu: 3 }, nothing)).toBe(false);
  expect(await tried(room, { ...box, memory_mib: 7169 }, nothing)).toBe(false);
  expect(await tried(room, { ...box, disk_mib: 95_905 }, nothing)).toBe(false);
  expect(await tried(room, { cpu: 2, memory_mib: 7168, disk_mib: 95_904 }, nothing)).toBe(true);
  await expect(room.hold(box, () => Promise.reject(new Error("as told")), nothing)).rejects.toThrow(
    "as told",
  );
  open();
  await first;
  expect(room.free).toEqual(room.total);
});

it("has as many slots as runs and live copies", async () => {
  const room = new Room({ ...capacity, cpu: 1000, memoryMib: 2 ** 20, diskMib: 2 ** 20 });
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const held = [1, 2, 3].map(() =>
    room.hold(
      box,
      () => gate,
      () => Promise.reject(new Error("refused")),
    ),
  );
  expect(room.free.slots).toBe(0);
  expect(await tried(room, { cpu: 0, memory_mib: 0, disk_mib: 0 }, async () => undefined)).toBe(false);
  open();
  await Promise.all(held);
});

it("takes from a machine what leaves the reserves, and something on the smallest", () => {
  const machine = { cores: 8, memoryMib: 32_768, diskMib: 500_000, diskFreeMib: 300_000 };
  expect(defaultCapacity(machine)).toEqual({
    runs: 32,
    cpu: 64,
    memoryMib: 26_214,
    diskMib: (300_000 - 20_480) * 4,
  });
  const small = { cores: 1, memoryMib: 900, diskMib: 8_000, diskFreeMib: 1_000 };
  expect(defaultCapacity(small)).toEqual({ runs: 4, cpu: 8, memoryMib: 388, diskMib: 1_024 });
  expect(defaultDiskReserveMib(8_000)).toBe(4_096);
  expect(defaultDiskReserveMib(200_000)).toBe(10_000);
});
