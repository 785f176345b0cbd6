import type { Output } from "../output.ts";
import { formatBytes } from "../values/bytes.ts";

/** What a copy did, and `--json` prints. */
export interface CopySummary {
  fileCount: number;
  directoryCount: number;
  symlinkCount: number;
  byteCount: number;
  /** Entries that were not copied, because they lead out of the target or are no files */
  refused: string[];
}

const REFUSED_KEPT_MAX = 1000;

/** Counts a copy as it goes. */
export class CopyReport {
  readonly summary: CopySummary = {
    fileCount: 0,
    directoryCount: 0,
    symlinkCount: 0,
    byteCount: 0,
    refused: [],
  };
  readonly #output: Output;
  readonly #update: (text: string) => void;

  constructor(output: Output, update: (text: string) => void) {
    this.#output = output;
    this.#update = update;
  }

  bytes(count: number): void {
    this.summary.byteCount += count;
    this.#show();
  }

  file(): void {
    this.summary.fileCount += 1;
    this.#show();
  }

  refuse(name: string, reason: string): void {
    if (this.summary.refused.length < REFUSED_KEPT_MAX) this.summary.refused.push(name);
    if (!this.#output.json) this.#output.warn(`not copied: ${name}: ${reason}`);
  }

  #show(): void {
    this.#update(
      `copying: ${this.summary.fileCount} files, ${formatBytes(this.summary.byteCount)}`,
    );
  }
}
