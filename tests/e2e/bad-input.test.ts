import { ApiFailure } from "./support/api.ts";
import { expect, test } from "./fixture.ts";

const create = (body: unknown) => ({ method: "POST", path: "/v1/sandboxes", body });
const VALID_ID = "abcdefghij0123456789";

test.for([
  {
    what: "an unknown template",
    ...create({ template: "no-such" }),
    status: 404,
    code: "TEMPLATE_NOT_FOUND",
    names: "no-such",
  },
  { what: "port 0", ...create({ ports: [0] }), status: 400, code: "BAD_REQUEST", names: "ports" },
  {
    what: "port 65536",
    ...create({ ports: [65536] }),
    status: 400,
    code: "BAD_REQUEST",
    names: "ports",
  },
  {
    what: "a port as text",
    ...create({ ports: ["80"] }),
    status: 400,
    code: "BAD_REQUEST",
    names: "ports",
  },
  {
    what: "half a port",
    ...create({ ports: [80.5] }),
    status: 400,
    code: "BAD_REQUEST",
    names: "ports",
  },
  {
    what: "thirty-three ports",
    ...create({ ports: Array.from({ length: 33 }, (_, index) => index + 1) }),
    status: 400,
    code: "BAD_REQUEST",
    names: "ports",
  },
  {
    what: "an environment name with =",
    ...create({ env: { "A=B": "c" } }),
    status: 400,
    code: "BAD_REQUEST",
    names: "env",
  },
  {
    what: "an unknown key",
    ...create({ tempalte: "host" }),
    status: 400,
    code: "BAD_REQUEST",
    names: "tempalte",
  },
  {
    what: "a name with a slash",
    ...create({ name: "../x" }),
    status: 400,
    code: "BAD_REQUEST",
    names: "name",
  },
  {
    what: "too little memory",
    ...create({ limits: { memoryBytes: 1 } }),
    status: 400,
    code: "BAD_REQUEST",
    names: "memoryBytes",
  },
  {
    what: "memory beyond what is exact",
    ...create({ limits: { memoryBytes: 1e30 } }),
    status: 400,
    code: "BAD_REQUEST",
    names: "memoryBytes",
  },
  {
    what: "an idle time of a millisecond",
    ...create({ timeouts: { idleMs: 1 } }),
    status: 400,
    code: "BAD_REQUEST",
    names: "idleMs",
  },
  {
    what: "a visibility that does not exist",
    ...create({ visibility: "secret" }),
    status: 400,
    code: "BAD_REQUEST",
    names: "visibility",
  },
  { what: "an array as a body", ...create([]), status: 400, code: "BAD_REQUEST", names: "" },
])("create refuses $what, naming it, and makes nothing", async (row, { api }) => {
  const before = (await api.list()).length;
  const answer = await api.call(row.method, row.path, { body: row.body });
  const failure = new ApiFailure("create", answer);
  expect([answer.status, failure.code]).toEqual([row.status, row.code]);
  expect(JSON.stringify(failure.envelope)).toContain(row.names);
  expect(failure.envelope?.error.hint).not.toBe("");
  expect((await api.list()).length).toBe(before);
});

test.for([
  "a/b",
  "..",
  "%2e%2e",
  "a%2Fb",
  "%00",
  `${VALID_ID}%00`,
  VALID_ID.slice(1),
  VALID_ID.slice(0, 19),
  `${VALID_ID}0`,
  `${VALID_ID}01234`,
  `${VALID_ID}0123456`,
  VALID_ID.toUpperCase(),
  `1${VALID_ID.slice(1)}`,
  "ａbcdefghij0123456789",
  "%F0%28%8C%28",
  "abcdefghij012345678é",
])("the id %s reaches no sandbox", async (id, { api }) => {
  for (const suffix of ["", "/exec", "/files/stat?path=/etc"]) {
    const answer = await api.call(
      suffix === "/exec" ? "POST" : "GET",
      `/v1/sandboxes/${encodeURI(decodeSafe(id))}${suffix}`,
      suffix === "/exec" ? { body: { command: ["true"] } } : {},
    );
    expect([400, 404, 405]).toContain(answer.status);
    expect(new ApiFailure("get", answer).code).not.toBe("");
  }
});

/** The raw spelling where it is already one of a URL. */
function decodeSafe(id: string): string {
  return id.includes("%") ? id.replaceAll("%", "%25").replaceAll("%25", "%") : id;
}

test("an unknown but well-formed id is not found", async ({ api }) => {
  const answer = await api.call("GET", `/v1/sandboxes/${VALID_ID}`);
  expect(new ApiFailure("get", answer).code).toBe("SANDBOX_NOT_FOUND");
  expect(answer.status).toBe(404);
});

test.for([
  { what: "broken JSON", raw: "{", type: "application/json", status: 400 },
  {
    what: "JSON with a prototype",
    raw: '{"__proto__":{"polluted":1}}',
    type: "application/json",
    status: 400,
  },
  { what: "a form", raw: "a=b", type: "application/x-www-form-urlencoded", status: 415 },
  { what: "XML", raw: "<a/>", type: "text/xml", status: 415 },
])("a body of $what is refused", async ({ raw, type, status }, { api }) => {
  const answer = await api.call("POST", "/v1/sandboxes", {
    raw,
    headers: { "content-type": type },
  });
  expect([400, status]).toContain(answer.status);
  expect(new ApiFailure("create", answer).code).not.toBe("");
});

test("a body over the limit is refused without being read whole", async ({ api }) => {
  const body = { metadata: { a: "x".repeat(10 * 2 ** 20) } };
  const answer = await api
    .call("POST", "/v1/sandboxes", { body })
    .catch((error: NodeJS.ErrnoException) => error);
  if (answer instanceof Error) expect(["ECONNRESET", "EPIPE"]).toContain(answer.code);
  else expect(answer.status).toBe(413);
});

test("unknown routes and wrong methods say so in the envelope", async ({ api }) => {
  expect(new ApiFailure("x", await api.call("GET", "/v1/nothing")).code).toBe("ROUTE_NOT_FOUND");
  const wrong = await api.call("PATCH", "/v1/sandboxes");
  expect([404, 405]).toContain(wrong.status);
  expect(new ApiFailure("x", wrong).code).toMatch(/ROUTE_NOT_FOUND|METHOD_NOT_ALLOWED/);
});

test("every refusal carries a request id that is in the answer's headers too", async ({ api }) => {
  const answer = await api.call("GET", "/v1/nothing");
  const { envelope } = new ApiFailure("x", answer);
  expect(envelope?.error.requestId ?? "").not.toBe("");
  expect(Object.values(answer.headers).flat()).toContain(envelope?.error.requestId);
});
