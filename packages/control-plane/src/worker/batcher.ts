/**
 * Concurrent calls of one kind become one statement for all of them.
 *
 *  I1  A call waits for nothing but batches that are under way: on an idle server it is a batch of its own.
 *  I2  When a batch fails, each of its calls is run alone, so that one bad call fails alone.
 */

export interface BatcherOptions<Input, Output> {
  /** Results in the order of the inputs. */
  readonly run: (inputs: readonly Input[]) => Promise<readonly Output[]>;
  readonly maxBatch: number;
  /** Batches under way at once, each on a database connection. */
  readonly concurrency: number;
}

interface Waiting<Input, Output> {
  readonly input: Input;
  readonly resolve: (output: Output) => void;
  readonly reject: (error: unknown) => void;
}

export class Batcher<Input, Output> {
  readonly #options: BatcherOptions<Input, Output>;
  /** As long as there are requests under way: the server's connections bound it. */
  readonly #waiting: Waiting<Input, Output>[] = [];
  #underWay = 0;

  constructor(options: BatcherOptions<Input, Output>) {
    this.#options = options;
  }

  call(input: Input): Promise<Output> {
    return new Promise<Output>((resolve, reject) => {
      this.#waiting.push({ input, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#underWay < this.#options.concurrency) {
      const batch = this.#waiting.splice(0, this.#options.maxBatch);
      this.#underWay += 1;
      void this.#run(batch).finally(() => {
        this.#underWay -= 1;
        this.#next();
      });
    }
  }

  /** Never rejects. */
  async #run(batch: readonly Waiting<Input, Output>[]): Promise<void> {
    try {
      const outputs = await this.#options.run(batch.map(({ input }) => input));
      batch.forEach(({ resolve, reject }, index) => {
        const output = outputs[index];
        if (output === undefined) reject(new Error("a batch returned too few results"));
        else resolve(output);
      });
    } catch (error) {
      const [only] = batch;
      if (batch.length === 1 && only !== undefined) only.reject(error);
      else await Promise.all(batch.map((each) => this.#run([each]))); // I2
    }
  }
}
