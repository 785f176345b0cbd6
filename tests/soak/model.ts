/** What the run knows of one sandbox: only what the daemon has acknowledged, and what it may have done. */
export interface KnownSandbox {
  readonly id: string;
  /** Each file with every content that it may hold: one when its last write was acknowledged */
  readonly files: Map<string, Set<string | null>>;
  /** A worker is at it */
  isBusy: boolean;
  /** A destroy was sent; whether it happened shows at the end */
  isDestroying: boolean;
}

/** What went wrong and must not. */
export class Findings {
  readonly #lines: string[] = [];

  add(line: string): void {
    this.#lines.push(line);
    process.stderr.write(`\n! ${line}\n`);
  }

  get lines(): readonly string[] {
    return this.#lines;
  }
}

/** The sandboxes that the run believes to exist, and counts of what was done. */
export class Model {
  readonly sandboxes = new Map<string, KnownSandbox>();
  readonly counts = new Map<string, { done: number; failed: number }>();

  count(operation: string, isDone: boolean): void {
    const entry = this.counts.get(operation) ?? { done: 0, failed: 0 };
    this.counts.set(operation, entry);
    if (isDone) entry.done += 1;
    else entry.failed += 1;
  }

  add(id: string): void {
    this.sandboxes.set(id, { id, files: new Map(), isBusy: false, isDestroying: false });
  }

  /** Sandboxes that nobody is at. */
  idle(): KnownSandbox[] {
    return [...this.sandboxes.values()].filter((one) => !one.isBusy && !one.isDestroying);
  }
}
