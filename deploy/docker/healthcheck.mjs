// Exit code 0 when the URL answers with 200: the image has no curl.
const [url] = process.argv.slice(2);
try {
  const { status } = await fetch(url, { signal: AbortSignal.timeout(4000) });
  process.exitCode = status === 200 ? 0 : 1;
} catch {
  process.exitCode = 1;
}
