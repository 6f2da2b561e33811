/**
 * The end of a process:
 *
 *   signal 1 (SIGINT, SIGTERM)   `stopping` resolves: finish, then exit 0
 *   signal 2                     exit at once: 130 or 143, as a process that the signal killed
 */

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

export interface StopSignals {
  readonly stopping: Promise<void>;
  close(): void;
}

export function listenForStop(): StopSignals {
  const { promise, resolve } = Promise.withResolvers<void>();
  let count = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    count += 1;
    if (count === 1) resolve();
    else process.exit(exitCodes[signal as keyof typeof exitCodes]);
  };
  for (const signal of Object.keys(exitCodes)) process.on(signal, onSignal);
  return {
    stopping: promise,
    close: () => {
      for (const signal of Object.keys(exitCodes)) process.off(signal, onSignal);
    },
  };
}
