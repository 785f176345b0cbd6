const SEQUENCE_BYTES_MAX = 4;

/** How many bytes of `data` do not end in the middle of a character. Bytes that are no UTF-8 count as whole. */
export function completeUtf8Length(data: Uint8Array): number {
  for (let back = 1; back <= Math.min(SEQUENCE_BYTES_MAX, data.length); back++) {
    const byte = data[data.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    return sequenceLength(byte) > back ? data.length - back : data.length;
  }
  return data.length;
}

function sequenceLength(lead: number): number {
  if (lead >= 0xf0) return 4;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc0 ? 2 : 1;
}
