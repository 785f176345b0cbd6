import net from "node:net";
import { expect, test } from "./fixture.ts";
import type { DaemonProcess } from "./support/daemon-process.ts";
import { guestPids } from "./support/guests.ts";
import { until } from "./support/machine.ts";

/** Sends a request and cuts the connection `afterMs` later, answer or not. */
function cutOff(
  daemon: DaemonProcess,
  method: string,
  route: string,
  options: { body?: unknown; afterMs: number; headers?: string },
) {
  const payload = options.body === undefined ? "" : JSON.stringify(options.body);
  const head = [
    `${method} ${route} HTTP/1.1`,
    ...(options.headers === undefined
      ? ["Host: localhost", `Authorization: Bearer ${daemon.token}`]
      : [options.headers]),
    ...(payload === "" ? [] : ["Content-Type: application/json"]),
    `Content-Length: ${Buffer.byteLength(payload)}`,
  ].join("\r\n");
  return new Promise<void>((resolve) => {
    const socket = net.connect(daemon.port, "127.0.0.1", () => {
      socket.write(`${head}\r\n\r\n${payload}`);
      setTimeout(() => socket.resetAndDestroy(), options.afterMs);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
  });
}

const STEPS_MS = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55];

test("a client that goes away at any step of a create leaves a whole sandbox or none", async ({
  daemon,
}) => {
  const { api } = daemon;
  const set = `cut${Math.trunc(performance.now())}`;
  await Promise.all(
    STEPS_MS.flatMap((afterMs) =>
      [1, 2].map(() =>
        cutOff(daemon, "POST", "/v1/sandboxes", { body: { metadata: { set } }, afterMs }),
      ),
    ),
  );
  const ours = async () => (await api.list()).filter(({ metadata }) => metadata["set"] === set);
  await until("no row is half-made", async () =>
    (await ours()).every(({ state }) => state === "running"),
  );
  for (const { id } of await ours()) {
    expect((await api.exec(id, ["true"])).exitCode).toBe(0);
    await api.destroy(id);
  }
  const running = (await api.list()).filter(({ state }) => state === "running").length;
  await until("no guest without a row", () => guestPids(daemon.dataDir).length === running);
});

test("a client that goes away at any step of a wake changes nothing for others", async ({
  daemon,
  createSandbox,
}) => {
  const { api } = daemon;
  const { id } = await createSandbox({ ports: [8080] });
  for (const rest of ["freeze", "stop"] as const) {
    for (const afterMs of STEPS_MS) {
      await until(
        "it rests",
        async () => (await api.call("POST", `/v1/sandboxes/${id}/${rest}`)).status === 200,
      );
      await cutOff(daemon, "POST", `/v1/sandboxes/${id}/wake`, { afterMs });
      expect((await api.move(id, "wake")).state).toBe("running");
      expect((await api.exec(id, ["true"])).exitCode).toBe(0);
    }
  }
});

test("a client that goes away ends the command it started, children too", async ({
  daemon,
  createSandbox,
}) => {
  const { api } = daemon;
  const { id } = await createSandbox();
  const route = `/v1/sandboxes/${id}/exec`;
  await Promise.all(
    STEPS_MS.map((afterMs) =>
      cutOff(daemon, "POST", route, {
        body: { command: "sleep 4321 & sleep 4321" },
        afterMs: afterMs * 5,
      }),
    ),
  );
  const left = async () =>
    (await api.exec(id, "grep -la 4321 /proc/[0-9]*/cmdline 2>/dev/null | grep -v self")).stdout;
  await until(
    "no sleep is left",
    async () => {
      const found = (await left()).split("\n").filter((line) => line !== "");
      const { stdout } = await api.exec(
        id,
        `for f in ${found.join(" ") || "/dev/null"}; do tr '\\0' ' ' < $f 2>/dev/null | grep -x 'sleep 4321 '; done`,
      );
      return stdout === "";
    },
    { timeoutMs: 30_000, stepMs: 200 },
  );
});

test("a visitor that goes away while a preview wakes leaves it woken for the next", async ({
  daemon,
  createSandbox,
}) => {
  const { api } = daemon;
  const app = 'require("http").createServer((q, r) => r.end("up")).listen(8080, "127.0.0.1")';
  const { id } = await createSandbox({
    ports: [8080],
    visibility: "public",
    start: { command: ["node", "-e", app] },
  });
  const host = `8080-${id}.localhost:${daemon.port}`;
  const visit = () => api.call("GET", "/", { headers: { host } });
  await until("the app answers", async () => (await visit()).status === 200);
  for (const afterMs of STEPS_MS) {
    await api.move(id, "stop");
    await cutOff(daemon, "GET", "/", { headers: `Host: ${host}`, afterMs });
    expect((await visit()).body.toString()).toBe("up");
  }
});
