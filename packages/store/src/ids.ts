/** Ids: UUIDv7, so that rows of one table arrive in index order and ids sort by age. */
import { randomFillSync } from "node:crypto";

const randomPool = new Uint8Array(4096);
let randomAt = randomPool.length;
let lastTimeMs = 0;
let counter = 0;

/**
 * A new UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, 12 bits of counter, 62 random bits.
 *
 * Strictly growing within a process: the counter starts at a random value below half its range each millisecond and
 * counts on from there; when it is used up, or the clock steps back, the time part runs ahead of the clock.
 */
export function uuidv7(): string {
  const nowMs = Date.now();
  if (nowMs > lastTimeMs) {
    lastTimeMs = nowMs;
    counter = ((nextRandomByte() & 0x07) << 8) | nextRandomByte();
  } else {
    counter += 1;
    if (counter > 0xfff) {
      lastTimeMs += 1;
      counter = nextRandomByte();
    }
  }
  const time = lastTimeMs.toString(16).padStart(12, "0");
  const low = Array.from({ length: 8 }, nextRandomByte);
  const variant = 0x80 | ((low[0] ?? 0) & 0x3f);
  const tail = [variant, ...low.slice(1)].map(hexByte).join("");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${counter.toString(16).padStart(3, "0")}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

function hexByte(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

function nextRandomByte(): number {
  if (randomAt >= randomPool.length) {
    randomFillSync(randomPool);
    randomAt = 0;
  }
  const byte = randomPool[randomAt] ?? 0;
  randomAt += 1;
  return byte;
}
