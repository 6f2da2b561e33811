// Loaded into one worker before anything else (`--import`): its `Date` runs ahead or behind by as many milliseconds as a
// file says, which SIGUSR2 has it read again. Timers go by the monotonic clock, as they do when a real clock is set.
import { readFileSync } from "node:fs";

const RealDate = globalThis.Date;
let offsetMs = 0;

function read() {
  offsetMs = Number(readFileSync(process.env.HELMR_FAULT_CLOCK_FILE, "utf8"));
}

class ShiftedDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offsetMs);
    else super(...args);
  }
  static now() {
    return RealDate.now() + offsetMs;
  }
}

read();
process.on("SIGUSR2", read);
globalThis.Date = ShiftedDate;
