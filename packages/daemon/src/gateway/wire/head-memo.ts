/** Bytes of a head that are worth keeping with a connection: beyond it, ten thousand of them add up. */
const MEMO_BYTES_MAX = 2 * 1024;

/**
 * The last head of one connection. A client or an app that stays sends much the same head again and
 * again, and reading a head depends on its bytes alone: the same bytes need no second reading.
 * Nothing else may be kept here: what a request may do is decided anew each time.
 */
export class HeadMemo<Head> {
  /** Bytes of the remembered head, its blank line included */
  byteCount = 0;
  #head: Head | undefined;
  #bytes: Buffer | undefined;

  /**
   * The remembered head, if `bytes[from…]` begins with exactly its bytes. They end at the first
   * blank line after their start, so a head that begins with them is them.
   */
  recall(bytes: Buffer, from: number): Head | undefined {
    const to = from + this.byteCount;
    if (this.#bytes === undefined || this.#head === undefined || to > bytes.length)
      return undefined;
    const isSame = bytes.compare(this.#bytes, 0, this.byteCount, from, to) === 0;
    return isSame ? this.#head : undefined;
  }

  /** Remembers the head that `bytes[from…to]`, up to its blank line, was read as. */
  remember(bytes: Buffer, from: number, to: number, head: Head): void {
    const byteCount = to - from;
    if (byteCount > MEMO_BYTES_MAX) {
      this.#head = undefined;
      return;
    }
    if (this.#bytes === undefined || this.#bytes.length < byteCount)
      this.#bytes = Buffer.allocUnsafeSlow(byteCount);
    bytes.copy(this.#bytes, 0, from, to);
    this.byteCount = byteCount;
    this.#head = head;
  }
}
