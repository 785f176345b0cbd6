import { BelljarError } from "@belljar/protocol";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeStat } from "./file-codec.ts";
import { guestError } from "./errors.ts";
import { encodeFrame, FieldWriter, Fields, FrameDecoder } from "./frames.ts";
import { decodeExit } from "./processes.ts";

function chunked(bytes: Uint8Array, cuts: number[]): Uint8Array[] {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((start, index) => bytes.subarray(start, at[index] ?? bytes.length));
}

function onlyBelljarErrors(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!BelljarError.is(error, "GUEST_PROTOCOL")) throw error;
  }
}

test("frames survive any chunking of the stream", () => {
  const frame = fc.record({
    type: fc.integer({ min: 0, max: 255 }),
    payload: fc.uint8Array({ maxLength: 300 }),
  });
  fc.assert(
    fc.property(fc.array(frame), fc.array(fc.nat()), (frames, cuts) => {
      const bytes = Buffer.concat(frames.map(({ type, payload }) => encodeFrame(type, payload)));
      const decoder = new FrameDecoder();
      const seen: { type: number; payload: Uint8Array }[] = [];
      for (const chunk of chunked(bytes, cuts))
        decoder.push(chunk, (type, payload) =>
          seen.push({ type, payload: Uint8Array.from(payload) }),
        );
      expect(seen).toEqual(
        frames.map(({ type, payload }) => ({ type, payload: Uint8Array.from(payload) })),
      );
      expect(decoder.isAtBoundary).toBe(true);
    }),
  );
});

test("no bytes make the decoder throw anything but GUEST_PROTOCOL", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat()), (bytes, cuts) => {
      const decoder = new FrameDecoder(64);
      onlyBelljarErrors(() => {
        for (const chunk of chunked(bytes, cuts))
          decoder.push(chunk, (_type, payload) =>
            expect(payload.byteLength).toBeLessThanOrEqual(64),
          );
      });
    }),
    { numRuns: 2000 },
  );
});

test("a frame beyond the limit is refused at its header, one at the limit is not", () => {
  const header = (length: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(length);
    return bytes;
  };
  const ignore = (): void => undefined;
  expect(() => new FrameDecoder(100).push(header(101), ignore)).toThrow("a frame of 101 bytes");
  expect(() => new FrameDecoder(100).push(header(100), ignore)).not.toThrow();
  expect(() => new FrameDecoder().push(header(0xff_ff_ff_ff), ignore)).toThrow("4294967295 bytes");
});

test("reserved header bits are refused", () => {
  const frame = encodeFrame(1);
  frame[6] = 1;
  expect(() => new FrameDecoder().push(frame, () => undefined)).toThrow("reserved bits");
});

test("fields come back as they were written", () => {
  const tag = fc.integer({ min: 0, max: 255 });
  fc.assert(
    fc.property(
      tag,
      fc.string(),
      fc.nat(0xff_ff_ff_ff),
      fc.nat(Number.MAX_SAFE_INTEGER),
      (first, text, small, large) => {
        fc.pre(first < 253);
        const writer = new FieldWriter()
          .put(first, text)
          .u32(first + 1, small)
          .u64(first + 2, large);
        const fields = new Fields(writer.frame(1).subarray(8));
        expect(fields.text(first)).toBe(Buffer.from(text).toString());
        expect(fields.u32(first + 1)).toBe(small);
        expect(fields.u64(first + 2)).toBe(large);
      },
    ),
  );
});

test("no payload makes a decoder of answers throw anything but GUEST_PROTOCOL", () => {
  const decoders = [
    (payload: Uint8Array) => new Fields(payload),
    (payload: Uint8Array) => decodeStat(payload),
    (payload: Uint8Array) => decodeExit(payload),
    (payload: Uint8Array) => guestError(payload, "file", "/x"),
  ];
  const field = fc.tuple(fc.integer({ min: 60, max: 95 }), fc.uint8Array({ maxLength: 12 }));
  const wellFormed = fc.array(field).map((fields) => {
    const writer = new FieldWriter();
    for (const [tag, value] of fields) writer.put(tag, value);
    return writer.frame(1).subarray(8);
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 100 }), wellFormed), (payload) => {
      for (const decode of decoders) onlyBelljarErrors(() => decode(payload));
    }),
    { numRuns: 2000 },
  );
});
