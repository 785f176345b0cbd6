import fc from "fast-check";
import { expect, test } from "vitest";
import { completeUtf8Length } from "./utf8.ts";

test("text cut anywhere and put together again is the text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.array(fc.nat({ max: 50 })), (text, cuts) => {
      const bytes = Buffer.from(text);
      let rest: Buffer = Buffer.alloc(0);
      let joined = "";
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        const chunk = Buffer.concat([rest, bytes.subarray(at, at + cut)]);
        at += cut;
        const length = completeUtf8Length(chunk);
        joined += chunk.subarray(0, length).toString();
        rest = chunk.subarray(length);
      }
      expect(joined + rest.toString()).toBe(bytes.toString());
    }),
  );
});

test("bytes that are no text are never held back for more than three bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const length = completeUtf8Length(bytes);
      expect(bytes.length - length).toBeLessThanOrEqual(3);
      expect(length).toBeGreaterThanOrEqual(0);
    }),
  );
});
