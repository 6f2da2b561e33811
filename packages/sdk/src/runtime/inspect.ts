/**
 * Renders any value as text, close to Node's `util.inspect`, with web APIs only.
 *
 * I1 It never throws, and calls no getter of a plain object.
 * I2 It stops when `budget` characters are produced, so that a huge structure costs no more than what can be shown.
 */
const maxDepth = 4;
const maxItems = 100;

interface Walk {
  readonly seen: object[];
  budget: number;
}

/** Text of `value`, of roughly at most `budget` characters. */
export function inspect(value: unknown, budget: number): string {
  try {
    return render(value, { seen: [], budget }, 0);
  } catch {
    // I1: a proxy or an exotic object may throw from anywhere.
    return "[cannot be inspected]";
  }
}

function render(value: unknown, walk: Walk, depth: number): string {
  const isObject = (typeof value === "object" && value !== null) || typeof value === "function";
  return isObject ? renderObject(value, walk, depth) : renderPrimitive(value, walk);
}

function renderPrimitive(value: unknown, walk: Walk): string {
  let text: string;
  if (typeof value === "string") text = quote(value.slice(0, Math.max(0, walk.budget)));
  else if (typeof value === "bigint") text = `${value}n`;
  else if (Object.is(value, -0)) text = "-0";
  else text = String(value);
  walk.budget -= text.length;
  return text;
}

function quote(text: string): string {
  const body = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
  if (!text.includes("'")) return `'${body}'`;
  return text.includes('"') ? `\`${body}\`` : `"${body}"`;
}

function renderObject(value: object, walk: Walk, depth: number): string {
  if (walk.seen.includes(value)) return "[Circular]";
  walk.seen.push(value);
  try {
    return renderContents(value, walk, depth);
  } finally {
    walk.seen.pop();
  }
}

function renderContents(value: object, walk: Walk, depth: number): string {
  if (value instanceof Error) return renderError(value, walk, depth);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Promise) return "Promise {}";
  if (typeof value === "function") return renderFunction(value);
  const name = className(value);
  if (depth > maxDepth) return Array.isArray(value) ? "[Array]" : `[${name === "" ? "Object" : name}]`;
  if (Array.isArray(value)) return list("", value.length, indexed(value), "[]", walk, depth);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    const items = value as unknown as ArrayLike<unknown>;
    return list(`${name}(${items.length}) `, items.length, indexed(items), "[]", walk, depth);
  }
  if (value instanceof Map)
    return list(`Map(${value.size}) `, value.size, mapEntries(value), "{}", walk, depth);
  if (value instanceof Set)
    return list(`Set(${value.size}) `, value.size, setEntries(value), "{}", walk, depth);
  const keys = Reflect.ownKeys(value).filter(
    (key) => Object.getOwnPropertyDescriptor(value, key)?.enumerable,
  );
  const prefix = name === "Object" ? "" : name === "" ? "[Object: null prototype] " : `${name} `;
  return list(prefix, keys.length, properties(value, keys), "{}", walk, depth);
}

type Entry = (walk: Walk, depth: number) => string;

function* indexed(items: ArrayLike<unknown>): Generator<Entry> {
  for (let index = 0; index < items.length; index += 1) {
    yield (walk, depth) => (index in items ? render(items[index], walk, depth) : "<empty>");
  }
}
function* mapEntries(map: Map<unknown, unknown>): Generator<Entry> {
  for (const [key, entry] of map) {
    yield (walk, depth) => `${render(key, walk, depth)} => ${render(entry, walk, depth)}`;
  }
}
function* setEntries(set: Set<unknown>): Generator<Entry> {
  for (const entry of set) yield (walk, depth) => render(entry, walk, depth);
}
function* properties(value: object, keys: readonly PropertyKey[]): Generator<Entry> {
  for (const key of keys) yield (walk, depth) => renderProperty(value, key, walk, depth);
}

function renderProperty(value: object, key: PropertyKey, walk: Walk, depth: number): string {
  const descriptor = Object.getOwnPropertyDescriptor(value, key);
  const isPlain = typeof key === "string" && /^[A-Za-z_$][\w$]*$/.test(key);
  const label = typeof key === "symbol" ? `[${String(key)}]` : isPlain ? key : quote(String(key));
  walk.budget -= label.length + 2;
  if (descriptor?.get !== undefined)
    return `${label}: [${descriptor.set === undefined ? "Getter" : "Getter/Setter"}]`;
  if (descriptor?.set !== undefined) return `${label}: [Setter]`;
  return `${label}: ${render(descriptor?.value, walk, depth)}`;
}

/** Entries in brackets: on one line when they fit into 72 characters, else one per line. */
function list(
  prefix: string,
  size: number,
  entries: Iterable<Entry>,
  brackets: string,
  walk: Walk,
  depth: number,
) {
  const [open, close] = [brackets.slice(0, 1), brackets.slice(1)];
  if (size === 0) return `${prefix}${brackets}`;
  const parts: string[] = [];
  for (const entry of entries) {
    if (parts.length === maxItems || walk.budget <= 0) {
      parts.push(`... ${size - parts.length} more item${size - parts.length === 1 ? "" : "s"}`);
      break;
    }
    parts.push(entry(walk, depth + 1));
    walk.budget -= 2;
  }
  const oneLine = parts.join(", ");
  if (oneLine.length <= 72 && !oneLine.includes("\n")) return `${prefix}${open} ${oneLine} ${close}`;
  return `${prefix}${open}\n${parts.map((part) => `  ${part.replaceAll("\n", "\n  ")}`).join(",\n")}\n${close}`;
}

function renderFunction(value: { name?: unknown }): string {
  const kind = /^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "Function";
  return typeof value.name === "string" && value.name !== ""
    ? `[${kind}: ${value.name}]`
    : `[${kind} (anonymous)]`;
}

/** Stack (it opens with name and message), own fields the author added, and the cause. */
function renderError(error: Error, walk: Walk, depth: number): string {
  const stack =
    typeof error.stack === "string" && error.stack !== "" ? error.stack : `${error.name}: ${error.message}`;
  const head = stack.includes(error.message) ? stack : `${error.name}: ${error.message}\n${stack}`;
  walk.budget -= head.length;
  if (depth > maxDepth) return head;
  const keys = Reflect.ownKeys(error).filter((key) => {
    if (["stack", "message", "name"].includes(String(key))) return false;
    return (
      key === "cause" || key === "errors" || Object.getOwnPropertyDescriptor(error, key)?.enumerable === true
    );
  });
  if (keys.length === 0) return head;
  const extra = keys.map((key) => {
    const label = key === "cause" || key === "errors" ? `[${key}]` : undefined;
    if (label === undefined) return renderProperty(error, key, walk, depth + 1);
    const descriptor = Object.getOwnPropertyDescriptor(error, key);
    return `${label}: ${render(descriptor?.value, walk, depth + 1)}`;
  });
  return `${head} {\n${extra.map((part) => `  ${part.replaceAll("\n", "\n  ")}`).join(",\n")}\n}`;
}

/** The constructor's name; "" for an object without prototype. */
function className(value: object): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (typeof prototype !== "object" || prototype === null) return "";
  const maker: unknown = Object.getOwnPropertyDescriptor(prototype, "constructor")?.value;
  return typeof maker === "function" && maker.name !== "" ? maker.name : "Object";
}
