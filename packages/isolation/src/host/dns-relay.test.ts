/** The relay's reading of guests' queries: hostile by nature. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import fc from "fast-check";
import { expect, it } from "vitest";
import { DnsRelay, questionName } from "./dns-relay.ts";

function query(name: string): Buffer {
  const header = Buffer.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = name
    .split(".")
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}

it("reads a query's name", () => {
  expect(questionName(query("Registry.NPMJS.org"))).toBe("registry.npmjs.org");
});

it("reads no name from an answer or a cut-off query", () => {
  const answer = query("example.com");
  answer.writeUInt8(0x81, 2);
  expect(questionName(answer)).toBeUndefined();
  for (let length = 0; length < 20; length += 1) {
    expect(questionName(query("example.com").subarray(0, length))).toBeUndefined();
  }
});

it("survives any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const name = questionName(Buffer.from(bytes));
      expect(name === undefined || name.length <= 255 * 4).toBe(true);
    }),
  );
});

it("answers REFUSED to a denied name", async () => {
  const relay = new DnsRelay({ nameservers: [], refuses: (_guest, name) => name === "denied.example" });
  const { udpPort } = await relay.listen();
  const client = createSocket("udp4");
  try {
    client.send(query("denied.example"), udpPort, "127.0.0.1");
    const [answer] = (await once(client, "message")) as [Buffer];
    expect([answer.readUInt16BE(0), answer.readUInt8(2) >> 7, answer.readUInt8(3) & 15]).toEqual([
      0xabcd, 1, 5,
    ]);
  } finally {
    client.close();
    await relay.close();
  }
});
