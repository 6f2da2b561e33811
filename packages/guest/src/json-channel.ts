/** The child's end of the JSON channel to the agent, on file descriptor 3. */
import { Socket } from "node:net";
import { limits } from "@helmr/guest-protocol/constants";
import { FrameDecoder, prefixed } from "@helmr/guest-protocol/frames";
import { hostChannelFd } from "./host-protocol.ts";

/** Taken before any code of the author can replace it. */
const exit = process.exit.bind(process);

export interface JsonChannel<Out> {
  send(message: Out): void;
  /** Resolves when everything sent is in the kernel's buffer. */
  flushed(): Promise<void>;
}

/** Open the channel; `onMessage` gets what the agent sends. The agent is trusted: it started this process. */
export function openJsonChannel<In, Out>(onMessage: (message: In) => void): JsonChannel<Out> {
  const socket = new Socket({ fd: hostChannelFd, readable: true, writable: true });
  const decoder = new FrameDecoder(limits.frameBytes * 2);
  socket.on("data", (chunk: Buffer) => {
    for (const body of decoder.push(chunk)) onMessage(JSON.parse(body.toString("utf8")) as In);
  });
  // Without the agent there is nobody to work for.
  const stop = (): void => exit(70);
  socket.on("error", stop);
  socket.on("close", stop);
  return {
    send: (message) => {
      socket.write(prefixed(Buffer.from(JSON.stringify(message))));
    },
    flushed: () => new Promise((resolve) => socket.write("", () => resolve())),
  };
}
