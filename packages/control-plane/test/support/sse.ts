/** Reads server-sent events the way clients do, frame by frame. */
export interface SseFrame {
  readonly id: string;
  readonly event: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read frames of any shape and assert on what they read
  readonly data: any;
}

export interface SseReader {
  readonly response: Response;
  /** Frames from here on; comments are counted, not given. */
  readonly frames: AsyncGenerator<SseFrame>;
  comments(): number;
  close(): Promise<void>;
}

export async function openStream(
  url: string,
  key: string,
  headers: Record<string, string> = {},
): Promise<SseReader> {
  const aborting = new AbortController();
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${key}`, ...headers },
    signal: aborting.signal,
  });
  let comments = 0;
  async function* read(): AsyncGenerator<SseFrame> {
    let buffer = "";
    if (response.body === null) return;
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      buffer += text;
      for (let end = buffer.indexOf("\n\n"); end !== -1; end = buffer.indexOf("\n\n")) {
        const lines = buffer.slice(0, end).split("\n");
        buffer = buffer.slice(end + 2);
        const field = (name: string) =>
          lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? "";
        if (field("data") === "") comments += 1;
        else yield { id: field("id"), event: field("event"), data: JSON.parse(field("data")) };
      }
    }
  }
  return {
    response,
    frames: read(),
    comments: () => comments,
    close: async () => aborting.abort(),
  };
}

/** The next `count` frames. */
export async function take(reader: SseReader, count: number): Promise<SseFrame[]> {
  const frames: SseFrame[] = [];
  while (frames.length < count) {
    const { done, value } = await reader.frames.next();
    if (done === true) throw new Error(`the stream ended after ${frames.length} of ${count} frames`);
    frames.push(value);
  }
  return frames;
}

/** Every frame until the server ends the stream. */
export async function takeAll(reader: SseReader): Promise<SseFrame[]> {
  const frames: SseFrame[] = [];
  for await (const frame of reader.frames) frames.push(frame);
  return frames;
}
