/** Where a sign-in leads. The wish comes out of a link that anybody may have written: it must not lead elsewhere. */

const fallback = "/";
const maxLength = 2048;

/**
 * The wish when it is a path of this server, else `/`. Browsers take `//host` and `/\host` for another server, and drop
 * tabs and line ends before they look: no backslash and no control character at all.
 */
export function redirectAfter(wish: string | undefined): string {
  if (wish === undefined || wish.length > maxLength) return fallback;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (!/^\/(?!\/)[^\\\u0000-\u001f\u007f]*$/.test(wish)) return fallback;
  return isStorable(wish) ? wish : fallback;
}

/** Half a surrogate pair has no UTF-8. */
function isStorable(text: string): boolean {
  return text.isWellFormed();
}
