/**
 * The fire index: when each schedule is due next, for dispatchers to ask without the database. Never the truth: the database
 * decides who fires, and the index is put right from it. A lost or a stale entry costs time, a doubled one a look.
 *
 *   state     enters by                     leaves by
 *   planned   put, settle with a next time  claim from its time on, put
 *   claimed   claim                         settle of this claim; put; planned again when the claim's time is over
 *   none                                    put
 */
export interface PlannedEntry {
  /** Of the schedule. */
  readonly id: string;
  readonly dueMs: number;
}

export interface ClaimedEntry {
  readonly id: string;
  /** Names this claim: a later one of the same entry has another. */
  readonly claim: number;
}

export interface SettledEntry extends ClaimedEntry {
  /** Undefined: the entry goes. */
  readonly nextMs: number | undefined;
}

/** Every function rejects when the index does not answer, within about a second. */
export interface FireIndex {
  /** One entry per schedule: an entry that is there, claimed or not, is replaced. */
  put(entries: readonly PlannedEntry[]): Promise<void>;
  /** Up to `limit` entries that are due, the earliest first. Of several who ask at once each gets others. */
  claim(options: {
    readonly nowMs: number;
    readonly limit: number;
    readonly leaseMs: number;
  }): Promise<readonly ClaimedEntry[]>;
  /** What comes of claims; of one that is not the entry's any more, nothing. */
  settle(entries: readonly SettledEntry[]): Promise<void>;
  close(): Promise<void>;
}

/**
 * An entry's number is its due time, or, claimed, the end of the claim with a random fraction of a millisecond (2^-10 still
 * fits a double beside a time of this century).
 */
export function newClaim(nowMs: number, leaseMs: number): number {
  return Math.ceil(nowMs + leaseMs) + (1 + Math.floor(Math.random() * 1023)) / 1024;
}
