/**
 * The character classes of RFC 9110 and 9112 as tables: index by a byte, read 1 where it belongs.
 * A missing index (the end of a string gives NaN) reads undefined, so every scan stops there.
 */
export const CR = 13;
export const LF = 10;
export const TAB = 9;
export const SPACE = 32;
export const COLON = 58;

const TCHAR_MARKS = "!#$%&'*+-.^_`|~";

/** `tchar`: what a method or a field name is made of (RFC 9110 §5.6.2). */
export const TOKEN = tableOf(
  (code) => isAlphanumeric(code) || TCHAR_MARKS.includes(String.fromCharCode(code)),
);

/** What a field value may hold: visible characters, space, tab and obs-text (RFC 9110 §5.5). */
export const VALUE = tableOf((code) => code === TAB || (code >= SPACE && code !== 127));

/**
 * What a request target may hold: visible ASCII without `#`, which starts a fragment and never
 * belongs on the wire. Characters outside RFC 3986 that browsers send (`|`, `{`, `"`) pass.
 */
export const TARGET = tableOf((code) => code > SPACE && code < 127 && code !== 35);

/** Value of a hexadecimal digit, or 255. */
export const HEX = Uint8Array.from({ length: 256 }, (_, code) => {
  const digit = Number.parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(digit) ? 255 : digit;
});

function isAlphanumeric(code: number): boolean {
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}

function tableOf(belongs: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, code) => (belongs(code) ? 1 : 0));
}
