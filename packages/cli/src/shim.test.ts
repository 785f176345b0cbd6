import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base, expect } from "vitest";
import { BELLJAR, runBelljar } from "./testing/belljar.ts";

const test = base.extend<{ place: string }>({
  // oxlint-disable-next-line no-empty-pattern -- the fixture needs nothing; the runner wants the pattern
  place: async ({}, use) => {
    const place = mkdtempSync(join(tmpdir(), "belljar-shim-"));
    await use(place);
    rmSync(place, { recursive: true });
  },
});

/** A copy of the shim with a program that prints what it was started with. */
function install(place: string): string {
  mkdirSync(join(place, "package/bin"), { recursive: true });
  mkdirSync(join(place, "package/dist"));
  cpSync(BELLJAR, join(place, "package/bin/belljar"));
  writeFileSync(join(place, "package/dist/main.js"), "");
  return join(place, "package/bin/belljar");
}

function fakeNode(directory: string, version: string): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, "node"),
    `#!/bin/sh\n[ "$1" = --version ] && echo ${version} && exit\necho "${directory}" "$@"\n`,
  );
  chmodSync(join(directory, "node"), 0o755);
}

function run(shim: string, args: string[], path: string) {
  return spawnSync(shim, args, {
    encoding: "utf8",
    env: { PATH: `${path}:/bin` },
  });
}

test("the shim works through a chain of symbolic links, relative ones too", async ({ place }) => {
  const shim = install(place);
  fakeNode(join(place, "node_modules/.bin"), "v24.15.0");
  symlinkSync(shim, join(place, "absolute"));
  symlinkSync("absolute", join(place, "relative"));
  const { stdout, status } = run(join(place, "relative"), ["a b", "--c"], "/bin");
  expect(status).toBe(0);
  expect(stdout).toBe(
    `${join(place, "node_modules/.bin")} ${join(place, "package/dist/main.js")} a b --c\n`,
  );
});

test("the shim prefers the packaged Node, and takes the machine's where there is none", ({
  place,
}) => {
  const shim = install(place);
  fakeNode(join(place, "own"), "v20.19.0");
  expect(run(shim, [], join(place, "own")).stdout).toContain(join(place, "own"));
  fakeNode(join(place, "node_modules/.bin"), "v24.15.0");
  expect(run(shim, [], join(place, "own")).stdout).toContain(join(place, "node_modules/.bin"));
});

test.for(["v18.20.0", "v20.18.3"])(
  "the shim refuses Node %s with one clear line",
  (version, { place }) => {
    const shim = install(place);
    fakeNode(join(place, "own"), version);
    const { stderr, status } = run(shim, [], join(place, "own"));
    expect(status).toBe(1);
    expect(stderr).toContain(`is ${version}`);
  },
);

test("the shim says what to do when nothing is built", ({ place }) => {
  const shim = install(place);
  rmSync(join(place, "package/dist/main.js"));
  const { stderr, status } = run(shim, [], "/bin");
  expect(status).toBe(1);
  expect(stderr).toContain("npm run build");
});

test("the real shim starts the program", async () => {
  expect(await runBelljar(["--version"])).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: "",
  });
});
