/** Numbers and paths that both sides share; apart from the schemas, so that the task host loads no validator. */
export const protocolVersion = 1;

/** Byte limits, each with its reason. */
export const limits = {
  /** One frame; a run's payload (4 MiB) is the largest legitimate content. */
  frameBytes: 8 * 1024 * 1024,
  /** One log chunk; keeps an append under the control plane's 256 KiB with base64 (4/3) and several chunks. */
  logChunkBytes: 48 * 1024,
  /** Task return value as JSON. */
  outputBytes: 1024 * 1024,
  /** Metadata value, patch, and the whole (contract 13.6). */
  metadataBytes: 256 * 1024,
  /** A `logger` entry (contract 13.6). */
  loggerEntryBytes: 64 * 1024,
  /** Error message and stack as sent; longer ones are cut with a marker. */
  errorTextBytes: 16 * 1024,
  /** Parameters of a call: an output record (256 KiB) as JSON in JSON. */
  callBytes: 1024 * 1024,
  /** Answer of a call: a page of records, an input record as large as a request may be. */
  callResultBytes: 7 * 1024 * 1024,
  /** Calls of one run that have no answer yet. */
  pendingCalls: 256,
  /** One chunk of a command's or terminal's input or output. */
  commandChunkBytes: 64 * 1024,
  /** What one side sends of one command's stream beyond what the other has taken (command-messages.ts, F1 and F2). */
  commandWindowBytes: 256 * 1024,
  /** Commands and terminals of one guest at a time. */
  commands: 64,
  /** Columns or rows of a terminal (contract 7.4). */
  terminalSize: 500,
  /** Arguments, and variables of the environment, of one command. */
  commandItems: 8192,
  /** One argument or variable: what Linux takes (MAX_ARG_STRLEN). */
  commandItemBytes: 128 * 1024,
  /** Catalog of one deployment as JSON. */
  catalogBytes: 4 * 1024 * 1024,
} as const;

/** Where things lie inside a guest. Reserved: nothing of the author's may be mounted over them. */
export const guestPaths = {
  /** Read-only: agent, task host, SDK (see @helmr/guest's bundle). */
  helmr: "/opt/helmr",
  agent: "/opt/helmr/agent.mjs",
  taskHost: "/opt/helmr/task-host.mjs",
  sdk: "/opt/helmr/sdk",
  taskRoot: "/opt/helmr-task",
  taskSource: "/opt/helmr-task/.helmr/deployment-source",
} as const;
