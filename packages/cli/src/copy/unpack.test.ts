import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { type Header, pack } from "tar-stream";
import { test as base, describe, expect } from "vitest";
import { Output } from "../output.ts";
import { CopyReport } from "./report.ts";
import { unpack } from "./unpack.ts";

type Entry = Partial<Header> & { name: string; content?: string };

const test = base.extend<{ place: { root: string; outside: string } }>({
  // oxlint-disable-next-line no-empty-pattern -- the fixture needs nothing; the runner wants the pattern
  place: async ({}, use) => {
    const top = mkdtempSync(join(tmpdir(), "belljar-unpack-"));
    const place = { root: join(top, "root"), outside: join(top, "outside") };
    mkdirSync(place.outside);
    await use(place);
    rmSync(top, { recursive: true });
  },
});

async function extract(root: string, entries: readonly Entry[], byteCountMax = 1024 * 1024) {
  const archive = pack();
  for (const { content = "", ...header } of entries) archive.entry(header, content);
  archive.finalize();
  const report = new CopyReport(new Output({ json: true, colours: false }), () => undefined);
  await unpack(archive as AsyncIterable<Uint8Array>, { root, byteCountMax, report });
  return report.summary;
}

describe("unpack()", () => {
  test("brings files, directories, links and modes", async ({ place }) => {
    const summary = await extract(place.root, [
      { name: "./", type: "directory", mode: 0o755 },
      { name: "./bin/", type: "directory", mode: 0o500 },
      { name: "./bin/run", content: "#!/bin/sh\n", mode: 0o755 },
      { name: "./bin/link", type: "symlink", linkname: "run" },
      { name: "./second", type: "link", linkname: "./bin/run" },
      { name: "./deep/er/file", content: "no directory entries needed" },
    ]);
    expect(summary).toMatchObject({ fileCount: 3, symlinkCount: 1, refused: [] });
    expect(statSync(join(place.root, "bin/run")).mode & 0o7777).toBe(0o755);
    expect(statSync(join(place.root, "bin")).mode & 0o7777).toBe(0o500);
    expect(readlinkSync(join(place.root, "bin/link"))).toBe("run");
    expect(readFileSync(join(place.root, "second"), "utf8")).toBe("#!/bin/sh\n");
    chmodSync(join(place.root, "bin"), 0o700);
  });

  test("drops set-id bits, which a sandbox's root decides and which would count here", async ({
    place,
  }) => {
    await extract(place.root, [{ name: "tool", mode: 0o6755, content: "x" }]);
    expect(lstatSync(join(place.root, "tool")).mode & 0o7777).toBe(0o755);
  });

  test.for<[string, Entry]>([
    ["an absolute name", { name: "/escaped" }],
    ["a climbing name", { name: "../outside/escaped" }],
    ["a name that climbs later", { name: "a/../../outside/escaped" }],
    ["a hard link to outside", { name: "a", type: "link", linkname: "../outside/secret" }],
    ["a hard link to an absolute path", { name: "a", type: "link", linkname: "/etc/passwd" }],
  ])("ends at %s", async ([, entry], { place }) => {
    writeFileSync(join(place.outside, "secret"), "s");
    await expect(extract(place.root, [entry])).rejects.toSatisfy((error) =>
      BelljarError.is(error, "FILE_PATH_INVALID"),
    );
    expect(() => lstatSync(join(place.outside, "escaped"))).toThrow();
  });

  test("refuses links that lead out, says so, and brings the rest", async ({ place }) => {
    const summary = await extract(place.root, [
      { name: "absolute", type: "symlink", linkname: "/etc" },
      { name: "climbs", type: "symlink", linkname: "../outside" },
      { name: "hides", type: "symlink", linkname: "a/../../outside" },
      { name: "kept", content: "kept" },
    ]);
    expect(summary.refused).toEqual(["absolute", "climbs", "hides"]);
    expect(readFileSync(join(place.root, "kept"), "utf8")).toBe("kept");
    expect(() => lstatSync(join(place.root, "absolute"))).toThrow();
  });

  test("writes nothing through a link that an earlier entry has made", async ({ place }) => {
    await extract(place.root, [
      { name: "d", type: "symlink", linkname: "." },
      { name: "d/file", content: "x" },
    ]).catch(() => undefined);
    expect(lstatSync(join(place.root, "d")).isDirectory()).toBe(true);
  });

  test("writes nothing through a link that was there before", async ({ place }) => {
    mkdirSync(place.root);
    writeFileSync(join(place.outside, "victim"), "mine");
    symlinkSync(place.outside, join(place.root, "dir"));
    symlinkSync(join(place.outside, "victim"), join(place.root, "file"));
    await expect(extract(place.root, [{ name: "dir/escaped", content: "x" }])).rejects.toThrow(
      "not a directory",
    );
    await extract(place.root, [{ name: "file", content: "theirs" }]);
    expect(readFileSync(join(place.outside, "victim"), "utf8")).toBe("mine");
    expect(lstatSync(join(place.root, "file")).isFile()).toBe(true);
  });

  test("leaves the mode of a directory that was there before alone", async ({ place }) => {
    mkdirSync(place.root, { mode: 0o700 });
    await extract(place.root, [{ name: "./", type: "directory", mode: 0o777 }]);
    expect(statSync(place.root).mode & 0o777).toBe(0o700);
  });

  test("refuses devices and pipes", async ({ place }) => {
    const summary = await extract(place.root, [
      { name: "pipe", type: "fifo" },
      { name: "disk", type: "block-device", devmajor: 8, devminor: 0 },
    ]);
    expect(summary.refused).toEqual(["pipe", "disk"]);
  });

  test("ends where the sandbox sends more than was agreed to", async ({ place }) => {
    const entries = [{ name: "big", content: "x".repeat(2000) }];
    await expect(extract(place.root, entries, 1999)).rejects.toSatisfy((error) =>
      BelljarError.is(error, "BODY_TOO_LARGE"),
    );
    await expect(extract(place.root, entries, 2000)).resolves.toMatchObject({
      fileCount: 1,
      byteCount: 2000,
    });
  });

  test("rejects bytes that are no archive", async ({ place }) => {
    const report = new CopyReport(new Output({ json: true, colours: false }), () => undefined);
    async function* junk() {
      yield Buffer.alloc(2048, "junk");
    }
    await expect(unpack(junk(), { root: place.root, byteCountMax: 1, report })).rejects.toThrow();
  });
});
