/** What clients were told. What is acknowledged here must be in the database at the end. */

export interface SeenStart {
  readonly operation: string;
  readonly key: string;
  readonly sessionId: string;
  readonly runId: string;
}
export interface SeenInput {
  readonly sessionId: string;
  readonly key: string;
  readonly n: number;
  readonly sequence: number;
  readonly recordId: string;
}
/** `refused`: another had completed it with other data. */
export interface SeenCompletion {
  readonly tokenId: string;
  readonly value: string;
  readonly status: "completed" | "already_completed" | "refused";
}
export interface SeenCancel {
  readonly runId: string;
  /** As the answer said. */
  readonly wasTerminal: boolean;
}
export interface SeenFollow {
  readonly runId: string;
  readonly cursors: readonly number[];
  /** To its end. */
  readonly complete: boolean;
}
export interface SeenRecord {
  readonly sequence: number;
  readonly id: string;
  readonly data: string;
}
export interface SeenReading {
  readonly sessionId: string;
  readonly records: readonly SeenRecord[];
}
export interface SeenFile {
  readonly workspaceId: string;
  readonly versionId: string;
  readonly path: string;
  readonly content: string;
}
/** What reading the file again at the end gave. */
export interface SeenReadBack extends SeenFile {
  readonly found: string;
}
export interface SeenSchedule {
  readonly id: string;
  readonly end: "kept" | "deleted" | "deactivated" | "unknown";
}
export interface SeenSample {
  readonly lane: string;
  readonly limit: number;
  readonly leased: number;
}

export class Seen {
  readonly starts: SeenStart[] = [];
  readonly inputs: SeenInput[] = [];
  readonly completions: SeenCompletion[] = [];
  readonly cancels: SeenCancel[] = [];
  readonly follows: SeenFollow[] = [];
  readonly readings: SeenReading[] = [];
  readonly files: SeenFile[] = [];
  readonly readBacks: SeenReadBack[] = [];
  readonly schedules: SeenSchedule[] = [];
  readonly samples: SeenSample[] = [];
  /** Answers that no fault explains. */
  readonly problems: string[] = [];
  /** Answered and refused requests, for the summary. */
  readonly counts = { answered: 0, retried: 0 };
}
