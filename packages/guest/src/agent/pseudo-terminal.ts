/** Pseudo-terminals, by the ioctls that glibc's openpty makes. */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync } from "node:fs";
import type { Spawner } from "./spawn.ts";
import type { GuestUser } from "./users.ts";

/** linux/include/uapi/asm-generic/ioctls.h; the same on x64 and arm64. */
const requests = {
  TCGETS: 0x5401,
  TCSETS: 0x5402,
  TIOCSWINSZ: 0x5414,
  TIOCGPTN: 0x80045430,
  TIOCSPTLCK: 0x40045431,
};
const IUTF8 = 0o40000;

export interface PseudoTerminal {
  /** Does not block. */
  readonly master: number;
  /** For the program. */
  readonly slave: number;
}

/** A new one of the given size that belongs to the user. */
export function openPseudoTerminal(
  spawner: Spawner,
  options: { readonly cols: number; readonly rows: number; readonly user: GuestUser | undefined },
): PseudoTerminal {
  const { O_NOCTTY, O_NONBLOCK, O_RDWR } = constants;
  const master = openSync("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  try {
    spawner.ioctl(master, requests.TIOCSPTLCK, Buffer.alloc(4));
    const number = Buffer.alloc(4);
    spawner.ioctl(master, requests.TIOCGPTN, number);
    const slave = openSync(`/dev/pts/${number.readUInt32LE()}`, O_RDWR | O_NOCTTY);
    try {
      setSize(spawner, master, options.cols, options.rows);
      eraseWholeCharacters(spawner, slave);
      if (options.user !== undefined) fchownSync(slave, options.user.uid, fstatSync(slave).gid);
      fchmodSync(slave, 0o620);
    } catch (error) {
      closeSync(slave);
      throw error;
    }
    return { master, slave };
  } catch (error) {
    closeSync(master);
    throw error;
  }
}

/** The foreground program gets SIGWINCH when it changes. */
export function setSize(spawner: Spawner, master: number, cols: number, rows: number): void {
  const size = Buffer.alloc(8);
  size.writeUInt16LE(rows, 0);
  size.writeUInt16LE(cols, 2);
  spawner.ioctl(master, requests.TIOCSWINSZ, size);
}

/** Of UTF-8, when the terminal edits the line itself. */
function eraseWholeCharacters(spawner: Spawner, slave: number): void {
  // Larger than any version of struct termios; its first field are the input flags.
  const termios = Buffer.alloc(256);
  spawner.ioctl(slave, requests.TCGETS, termios);
  termios.writeUInt32LE(termios.readUInt32LE(0) | IUTF8, 0);
  spawner.ioctl(slave, requests.TCSETS, termios);
}
