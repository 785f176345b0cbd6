import { styleText } from "node:util";
import { type TableColumn, renderTable } from "./table.ts";
import { visible } from "./visible.ts";

const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] as const;
const SPINNER_INTERVAL_MS = 80;
/** What takes less is not worth a line */
const PROGRESS_AFTER_MS = 1000;
const FALLBACK_COLUMNS = 80;

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

export interface OutputOptions {
  readonly json: boolean;
  readonly colours: boolean;
}

/**
 * The one place that prints. Standard output is data, standard error is people; colours and
 * spinners only on a terminal.
 */
export class Output {
  readonly json: boolean;
  readonly #colours: boolean;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.#colours = options.colours;
  }

  /** One JSON document on standard output. */
  data(value: unknown): void {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** A line of data on standard output. Control characters become visible: much of it is a sandbox's word. */
  line(text: string): void {
    process.stdout.write(`${visible(text)}\n`);
  }

  /** Text on standard output as it is, for pages that this program makes itself. */
  page(text: string): void {
    process.stdout.write(text);
  }

  /** Output of a program, byte for byte. Resolves when more may come. */
  bytes(stream: "stdout" | "stderr", data: Uint8Array): Promise<void> | void {
    const target = stream === "stdout" ? process.stdout : process.stderr;
    if (target.write(data)) return;
    return new Promise((resolve) => {
      const done = () => {
        target.off("drain", done);
        target.off("close", done);
        resolve();
      };
      target.once("drain", done);
      target.once("close", done);
    });
  }

  /** A table on standard output, cut to the terminal's width when it is one. */
  table(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): void {
    const width = process.stdout.isTTY ? (process.stdout.columns ?? FALLBACK_COLUMNS) : undefined;
    const [head = "", ...lines] = renderTable(columns, rows, width);
    process.stdout.write(`${[this.#style(process.stdout, "dim", head), ...lines].join("\n")}\n`);
  }

  /** `name  value` lines on standard output. */
  facts(facts: readonly (readonly [string, string])[]): void {
    const width = Math.max(0, ...facts.map(([name]) => name.length));
    for (const [name, value] of facts) {
      const label = this.#style(process.stdout, "dim", name.padEnd(width));
      process.stdout.write(`${label}  ${visible(value)}\n`);
    }
  }

  /** A line for people on standard error; nothing with `--json`. */
  say(text: string): void {
    if (!this.json) process.stderr.write(`${visible(text)}\n`);
  }

  /** A line for people on standard error, also with `--json`. */
  warn(text: string): void {
    process.stderr.write(`${this.#style(process.stderr, "yellow", "warning:")} ${visible(text)}\n`);
  }

  complain(message: string, hint: string): void {
    process.stderr.write(
      `${this.#style(process.stderr, "red", "error:")} ${visible(message, { lines: true })}\n`,
    );
    if (hint !== "")
      process.stderr.write(`  ${this.#style(process.stderr, "dim", "hint:")} ${visible(hint)}\n`);
  }

  errorJson(envelope: unknown): void {
    process.stderr.write(`${JSON.stringify(envelope)}\n`);
  }

  paint(style: Style, text: string): string {
    return this.#style(process.stdout, style, text);
  }

  paintError(style: Style, text: string): string {
    return this.#style(process.stderr, style, text);
  }

  /** Runs `work`; what takes over a second shows a spinner on a terminal. `update` changes its text. */
  async progress<Result>(
    label: string,
    work: (update: (text: string) => void) => Promise<Result>,
  ): Promise<Result> {
    const spinner = this.json || !process.stderr.isTTY ? undefined : startSpinner(label);
    try {
      return await work((text) => spinner?.update(text));
    } finally {
      spinner?.stop();
    }
  }

  #style(stream: { isTTY?: boolean }, style: Style, text: string): string {
    return this.#colours && stream.isTTY === true
      ? styleText(style, text, { validateStream: false })
      : text;
  }
}

function startSpinner(label: string): { update(text: string): void; stop(): void } {
  const state = { text: label, frame: 0, shown: false };
  const draw = () => {
    const glyph = SPINNER[state.frame % SPINNER.length] ?? "";
    const columns = process.stderr.columns ?? FALLBACK_COLUMNS;
    state.frame += 1;
    state.shown = true;
    process.stderr.write(`\r\x1b[2K${`${glyph} ${visible(state.text)}`.slice(0, columns - 1)}`);
  };
  const timers: { interval?: NodeJS.Timeout } = {};
  const delay = setTimeout(() => {
    draw();
    timers.interval = setInterval(draw, SPINNER_INTERVAL_MS);
  }, PROGRESS_AFTER_MS);
  return {
    update: (text) => {
      state.text = text;
    },
    stop: () => {
      clearTimeout(delay);
      clearInterval(timers.interval);
      if (state.shown) process.stderr.write("\r\x1b[2K");
    },
  };
}
