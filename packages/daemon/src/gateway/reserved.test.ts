import { expect, test } from "vitest";
import { safePath, sessionCookie } from "./reserved.ts";

test.for([
  ["/", "/"],
  ["/a/b?c=d#e", "/a/b?c=d#e"],
  ["//evil.example", "/"],
  ["/\\evil.example", "/"],
  ["/a\\b", "/"],
  ["https://evil.example/", "/"],
  ["javascript:alert(1)", "/"],
  ["/\tx", "/"],
  ["/..//evil.example", "/"],
  ["/.belljar/session", "/"],
  ["", "/"],
])("safePath() turns %s into %s", ([to, expected]) => {
  expect(safePath(to ?? "", "http://3000-x.localhost:80")).toBe(expected);
});

const request = (protocol: string, host: string) => ({
  facts: { protocol },
  head: { authority: { host } },
});

test("the session's cookie is prefixed and secure over https, and partitioned in a frame", () => {
  const session = { token: "t", lifeS: 9, isFramed: false };
  expect(sessionCookie(request("https", "a.example"), session)).toBe(
    "__Host-belljar=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=Lax",
  );
  expect(sessionCookie(request("https", "a.example"), { ...session, isFramed: true })).toBe(
    "__Host-belljar=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None; Partitioned",
  );
  expect(sessionCookie(request("http", "a.localhost"), session)).toBe(
    "belljar-preview=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax",
  );
  expect(sessionCookie(request("http", "a.example"), { ...session, isFramed: true })).toBe(
    "belljar-preview=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax",
  );
});
