import { ApiFailure } from "./support/api.ts";
import { until } from "./support/machine.ts";
import { expect, test } from "./fixture.ts";

test("exec gives both streams apart, the exit code, and what the command used", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox({ env: { FROM_CREATE: "1" } });
  const result = await api.exec(
    id,
    'echo out; echo err >&2; echo "$FROM_CREATE$FROM_EXEC"; exit 7',
    { env: { FROM_EXEC: "2" } },
  );
  expect(result).toMatchObject({
    stdout: "out\n12\n",
    stderr: "err\n",
    exitCode: 7,
    reason: "exited",
    signal: null,
  });
  const piped = await api.exec(id, ["cat"], { stdin: "in" });
  expect(piped.stdout).toBe("in");
  const binary = await api.exec(id, ["cat"], {
    stdin: Buffer.from([0, 255, 1]).toString("base64"),
    encoding: "base64",
  });
  expect(Buffer.from(binary.stdout, "base64")).toEqual(Buffer.from([0, 255, 1]));
});

test("commands run as `user` in its home unless told otherwise", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  expect((await api.exec(id, "id -un; pwd; echo $HOME")).stdout).toBe(
    "user\n/home/user\n/home/user\n",
  );
  expect((await api.exec(id, "id -u", { user: "root" })).stdout).toBe("0\n");
  expect((await api.exec(id, "id -u; id -g", { user: "1000:1000" })).stdout).toBe("1000\n1000\n");
});

test.for([
  {
    what: "a program that does not exist",
    body: { command: ["/no/such/program"] },
    status: 422,
    code: "EXEC_NOT_FOUND",
  },
  {
    what: "a directory as a program",
    body: { command: ["/home"] },
    status: 422,
    code: "EXEC_NOT_FOUND",
  },
  {
    what: "a working directory that does not exist",
    body: { command: ["true"], cwd: "/no/such" },
    status: 422,
    code: "EXEC_CWD",
  },
  {
    what: "a file as a working directory",
    body: { command: ["true"], cwd: "/etc/passwd" },
    status: 422,
    code: "EXEC_CWD",
  },
  {
    what: "a relative working directory",
    body: { command: ["true"], cwd: "home" },
    status: 400,
    code: "BAD_REQUEST",
  },
  {
    what: "an unknown user",
    body: { command: ["true"], user: "nobody-here" },
    status: 422,
    code: "EXEC_USER_UNKNOWN",
  },
  {
    what: "a user with a slash",
    body: { command: ["true"], user: "../root" },
    status: 400,
    code: "BAD_REQUEST",
  },
  {
    what: "an environment name with =",
    body: { command: ["true"], env: { "A=B": "c" } },
    status: 400,
    code: "BAD_REQUEST",
  },
  {
    what: "an environment value with NUL",
    body: { command: ["true"], env: { A: "b\0c" } },
    status: 400,
    code: "BAD_REQUEST",
  },
  { what: "an empty command", body: { command: [] }, status: 400, code: "BAD_REQUEST" },
  {
    what: "an argument with NUL",
    body: { command: ["echo", "a\0b"] },
    status: 400,
    code: "BAD_REQUEST",
  },
  {
    what: "an unknown key",
    body: { command: ["true"], comand: 1 },
    status: 400,
    code: "BAD_REQUEST",
  },
  {
    what: "a negative timeout",
    body: { command: ["true"], timeoutMs: -1 },
    status: 400,
    code: "BAD_REQUEST",
  },
])("exec refuses $what", async ({ body, status, code }, { api, createSandbox }) => {
  const { id } = await createSandbox();
  const answer = await api.call("POST", `/v1/sandboxes/${id}/exec`, { body });
  const failure = new ApiFailure("exec", answer);
  expect([answer.status, failure.code]).toEqual([status, code]);
  expect(failure.envelope?.error.hint).not.toBe("");
  // The well-formed neighbour of every row.
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
});

test("ten megabytes of arguments are refused with a code, and nothing runs", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const answer = await api.call("POST", `/v1/sandboxes/${id}/exec`, {
    body: { command: ["touch", "/home/user/ran", "x".repeat(10 * 2 ** 20)] },
  });
  expect(answer.status).toBe(413);
  expect(["BODY_TOO_LARGE", "EXEC_TOO_LARGE"]).toContain(new ApiFailure("exec", answer).code);
  expect((await api.exec(id, ["test", "-e", "/home/user/ran"])).exitCode).toBe(1);
  const many = await api.call("POST", `/v1/sandboxes/${id}/exec`, {
    body: { command: ["true", ...Array.from({ length: 60_000 }, () => "twenty characters ok")] },
  });
  expect([413, 200]).toContain(many.status);
});

test("a command that ignores TERM is killed after its grace", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  const result = await api.exec(id, "trap '' TERM; echo on; while :; do sleep 1; done", {
    timeoutMs: 200,
  });
  expect(result).toMatchObject({ reason: "timeout", stdout: "on\n" });
  expect((await api.exec(id, "ps ax 2>/dev/null | grep -c '[w]hile :' ")).stdout.trim()).toBe("0");
});

test("a command that prints a gigabyte is cut at the limit and runs to its end", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const result = await api.exec(id, "head -c 1073741824 /dev/zero | tr '\\0' x; echo done >&2", {
    outputBytesMax: 1000,
  });
  expect(result.stdout.length).toBe(1000);
  expect(result).toMatchObject({ stdoutTruncated: true, stderr: "done\n", exitCode: 0 });
  const status = await import("node:fs").then((fs) =>
    fs.readFileSync(`/proc/${daemon.pid}/status`, "utf8"),
  );
  const residentKib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  expect(residentKib).toBeLessThan(600 * 1024);
});

test("a command that closes its output and lives on does not hang the caller", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const background = await api.exec(id, "sleep 30 & echo started");
  expect(background).toMatchObject({ stdout: "started\n", exitCode: 0 });
  expect(background.durationMs).toBeLessThan(10_000);
  const closed = await api.exec(id, "exec >&- 2>&-; sleep 0.3; exit 4");
  expect(closed.exitCode).toBe(4);
});

test("a fork bomb meets the process limit and harms nobody else", async ({
  api,
  createSandbox,
}) => {
  const victim = await createSandbox({ limits: { processCountMax: 64 } });
  const neighbour = await createSandbox();
  const bomb = await api.exec(victim.id, "f() { f | f & }; f; sleep 1; echo over", {
    timeoutMs: 3000,
  });
  expect(["exited", "timeout", "signaled"]).toContain(bomb.reason);
  expect((await api.exec(neighbour.id, ["true"])).exitCode).toBe(0);
  await until(
    "the bombed sandbox can be stopped",
    async () => (await api.move(victim.id, "stop")).state === "stopped",
  );
  expect((await api.exec(victim.id, ["echo", "well"])).stdout).toBe("well\n");
});

test("a hundred commands at once all answer", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  const results = await Promise.all(
    Array.from({ length: 100 }, (_, index) => api.exec(id, ["echo", String(index)])),
  );
  expect(results.map(({ stdout }) => Number(stdout))).toEqual(
    Array.from({ length: 100 }, (_, index) => index),
  );
});

test("the SDK streams a command with stdin, signals and a terminal", async ({
  belljar,
  createSandbox,
}) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const cat = await sandbox.spawn(["cat"], { stdin: true });
  await cat.writeStdin("hello\n");
  cat.endStdin();
  const chunks: Buffer[] = [];
  for await (const { stream, data } of cat.output)
    if (stream === "stdout") chunks.push(Buffer.from(data));
  expect(Buffer.concat(chunks).toString()).toBe("hello\n");
  expect(await cat.exited).toMatchObject({ exitCode: 0, reason: "exited" });
  const sleeper = await sandbox.spawn(["sleep", "1000"]);
  sleeper.signal("SIGTERM");
  expect(await sleeper.exited).toMatchObject({ signal: "SIGTERM" });
  const terminal = await sandbox.spawn("stty size; tty -s && echo tty", {
    terminal: { columns: 91, rows: 17 },
  });
  const seen: Buffer[] = [];
  for await (const { data } of terminal.output) seen.push(Buffer.from(data));
  expect(Buffer.concat(seen).toString()).toContain("17 91");
});

test("a started process outlives its caller, is listed, attached to and signalled", async ({
  belljar,
  createSandbox,
}) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const started = await sandbox.processes.start({ command: "echo early; sleep 1000", tag: "kept" });
  expect((await sandbox.processes.list()).map(({ pid, tag }) => [pid, tag])).toEqual([
    [started.pid, "kept"],
  ]);
  await expect(sandbox.processes.start({ command: ["true"], tag: "kept" })).rejects.toMatchObject({
    code: "EXEC_TAG_TAKEN",
  });
  const attached = await sandbox.processes.attach("kept");
  const first = await attached.output[Symbol.asyncIterator]().next();
  expect(Buffer.from(first.value?.data ?? []).toString()).toBe("early\n");
  await sandbox.processes.signal(started.pid, "SIGKILL");
  expect(await attached.exited).toMatchObject({ signal: "SIGKILL" });
  await expect(sandbox.processes.signal(999_999, "SIGTERM")).rejects.toMatchObject({
    code: "PROCESS_NOT_FOUND",
  });
});
