/** What the driver did and when, for people who look into a failure. */
export class Journal {
  readonly lines: string[] = [];
  readonly #begun = Date.now();
  readonly #echo: (line: string) => void;

  constructor(echo: (line: string) => void) {
    this.#echo = echo;
  }

  note(text: string): void {
    const seconds = ((Date.now() - this.#begun) / 1000).toFixed(1).padStart(7);
    const line = `${new Date().toISOString()} ${seconds} s  ${text}`;
    this.lines.push(line);
    this.#echo(line);
  }
}
