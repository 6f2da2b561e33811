/** Why the stack cannot start here, in words that are complete for a person at a terminal: what to do is among them. */
export class StartError extends Error {
  override readonly name: string = "StartError";
}
