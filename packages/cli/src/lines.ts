import { StringDecoder } from "node:string_decoder";

const LINE_CHARS_MAX = 256 * 1024;

/** Cuts a byte stream into lines; one that never ends is handed over in pieces. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #emit: (line: string) => void;
  #rest = "";

  constructor(emit: (line: string) => void) {
    this.#emit = emit;
  }

  push(data: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.write(Buffer.from(data))).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#emit(line);
    if (this.#rest.length > LINE_CHARS_MAX) this.end();
  }

  /** Hands over what has no line feed. */
  end(): void {
    if (this.#rest !== "") this.#emit(this.#rest);
    this.#rest = "";
  }
}
