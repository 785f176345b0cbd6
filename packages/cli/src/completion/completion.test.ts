import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { UsageError } from "../failure.ts";
import { renderCompletion } from "./index.ts";

/** What bash offers after `words`, the last one being typed. */
function complete(words: readonly string[]): string[] {
  const list = words.map((word) => `'${word}'`).join(" ");
  const script = `${renderCompletion("bash")}
belljar() { echo a1234567890123456789; }
COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _belljar; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync("bash", ["--norc"], {
    input: script,
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout.split("\n").filter((line) => line !== "");
}

test("the bash script parses", () => {
  const { status, stderr } = spawnSync("bash", ["-n"], {
    input: renderCompletion("bash"),
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
});

test.for<[string[], string[]]>([
  [["belljar", "sta"], ["status"]],
  [
    ["belljar", "sandbox", "c"],
    ["cp", "create"],
  ],
  [["belljar", "--data-dir", "/x", "preview", "o"], ["open"]],
  [["belljar", "sandbox", "create", "--vis"], ["--visibility"]],
  [
    ["belljar", "sandbox", "create", "--visibility", "p"],
    ["private", "public"],
  ],
  [["belljar", "sandbox", "get", "a"], ["a1234567890123456789"]],
  [["belljar", "completion", "f"], ["fish"]],
  [["belljar", "sandbox", "exec", "--tt"], ["--tty"]],
])("bash completes %j with %j", ([words, offered]) => {
  expect(complete(words).toSorted()).toEqual(offered);
});

test.for(["zsh", "fish"])("the %s script names every command and quotes its texts", (shell) => {
  const script = renderCompletion(shell);
  for (const word of ["create", "unshare", "--visibility"])
    expect(script).toContain(word.replace("--", shell === "fish" ? "" : "--"));
  expect(script).not.toMatch(/undefined|\[object/);
});

test("a shell without a script is a usage error", () => {
  expect(() => renderCompletion("tcsh")).toThrow(UsageError);
});
