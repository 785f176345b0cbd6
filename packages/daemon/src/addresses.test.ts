import { describe, expect, test } from "vitest";
import { addressesOf } from "./addresses.ts";
import { loadConfig } from "./config/index.ts";

const ID = "abcdefghij0123456789";

function addresses(...flags: [string, string][]) {
  const { config } = loadConfig({ flags, env: {}, cwd: "/", isRoot: true });
  return addressesOf(config, () => 4242);
}

describe("addresses", () => {
  test("by default everything is on this machine, at the port in use", () => {
    const { apiUrl, previewUrl, isApiHost } = addresses(["server.port", "0"]);
    expect(apiUrl()).toBe("http://127.0.0.1:4242");
    expect(previewUrl(ID, 3000)).toBe(`http://3000-${ID}.localhost:4242`);
    expect(["localhost", "127.0.0.1", "[::1]", "api.localhost"].every(isApiHost)).toBe(true);
    expect([`3000-${ID}.localhost`, "evil.example", ""].some(isApiHost)).toBe(false);
  });

  test("listening everywhere adds no host name, listening on one address adds that", () => {
    const any = addresses(["server.host", "0.0.0.0"]);
    expect(any.apiUrl()).toBe("http://127.0.0.1:4242");
    expect(any.isApiHost("0.0.0.0")).toBe(false);
    expect(addresses(["server.host", "192.0.2.7"]).isApiHost("192.0.2.7")).toBe(true);
    const six = addresses(["server.host", "2001:db8::1"]);
    expect([six.apiUrl(), six.isApiHost("[2001:db8::1]")]).toEqual([
      "http://[2001:db8::1]:4242",
      true,
    ]);
  });

  test("behind an edge, URLs are the edge's", () => {
    const edge = addresses(
      ["server.publicUrl", "https://box.example.org/"],
      ["previews.domain", "box.example.org"],
    );
    expect(edge.apiUrl()).toBe("https://box.example.org");
    expect(edge.previewUrl(ID, 80)).toBe(`https://80-${ID}.box.example.org`);
    expect(edge.isApiHost("box.example.org")).toBe(true);
    const template = addresses([
      "previews.publicUrlTemplate",
      "https://{preview}.apps.example.org:8443/",
    ]);
    expect(template.previewUrl(ID, 80)).toBe(`https://80-${ID}.apps.example.org:8443`);
    expect(template.publicHostTemplate).toBe("{preview}.apps.example.org");
  });
});
