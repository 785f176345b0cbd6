/** C0 and C1 controls, DEL, and the bidirectional marks that can make a line read as another one. */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text that comes from a sandbox, made safe to print: a control character would move the cursor,
 * retitle the terminal or hide what follows. Each becomes its escape. `lines` keeps line feeds.
 */
export function visible(text: string, options: { lines?: boolean } = {}): string {
  return text.replace(CONTROL, (character) => {
    if (options.lines === true && character === "\n") return character;
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}
