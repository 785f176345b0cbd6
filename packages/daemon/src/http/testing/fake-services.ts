import { duplexPair, Readable } from "node:stream";
import type { Duplex } from "node:stream";
import type { Sandbox } from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import type { Identity } from "../../auth/index.ts";
import { systemClock } from "../../kernel/index.ts";
import { silentLogger } from "../../log/index.ts";
import { createApi } from "../api.ts";
import type { HttpApi } from "../api.ts";
import type { Api, ApiServices, ApiSettings } from "../services.ts";

export const ID = "abcdefghij0123456789";
export const TOKENS: Record<string, Identity> = {
  bj_read: { tokenId: "tokenreadaaaaaaaaaaa", name: "reader", scope: "read" },
  bj_operate: { tokenId: "tokenoperateaaaaaaaa", name: "operator", scope: "operate" },
  bj_admin: { tokenId: "tokenadminaaaaaaaaaa", name: "admin", scope: "admin" },
};

export const SANDBOX: Sandbox = {
  id: ID,
  name: null,
  state: "running",
  template: "host",
  level: "standard",
  metadata: {},
  limits: { memoryBytes: 1, cpuCount: 1, processCountMax: 1, openFilesMax: 1, diskBytes: null },
  timeouts: { idleMs: null, onIdle: "freeze", frozenMs: null, lifeMs: null, onLifeEnd: "stop" },
  start: null,
  previews: [
    { port: 3000, url: `http://3000-${ID}.localhost`, visibility: "private", rewriteHost: false },
  ],
  createdAt: "2026-01-31T12:00:00.000Z",
  startedAt: null,
  lastActiveAt: "2026-01-31T12:00:00.000Z",
  keepAliveUntil: null,
  error: null,
  effective: [],
};

/** What reached the services, in order: the name of the method and its arguments. */
export type Calls = [string, ...unknown[]][];

export interface FakeApi {
  api: HttpApi;
  calls: Calls;
}

/** The API over services that record and answer with fixed values; `overrides` replaces some. */
export async function fakeApi(
  overrides: Partial<Record<keyof ApiServices, object>> = {},
  options: { settings?: Partial<ApiSettings>; extend?: (api: Api) => void } = {},
): Promise<FakeApi> {
  const calls: Calls = [];
  const services = { ...fakeServices(calls), ...overrides } as unknown as ApiServices;
  const settings: ApiSettings = {
    isApiHost: (host) => host === "localhost",
    allowedOrigins: ["https://app.example.org"],
    bodyBytesMax: 2 * 1024 * 1024,
    execsPerSandboxMax: 2,
    checkAnswers: true,
    ...options.settings,
  };
  const extend = options.extend === undefined ? {} : { extend: options.extend };
  const api = await createApi(services, { settings, version: "0.0.0-test", ...extend });
  return { api, calls };
}

function fakeServices(calls: Calls) {
  const record =
    (name: string, answer: unknown) =>
    (...args: unknown[]) => {
      calls.push([name, ...args]);
      return Promise.resolve(answer);
    };
  const link = {
    id: "linkaaaaaaaaaaaaaaaa",
    url: "http://x/#link",
    createdAtMs: 0,
    expiresAtMs: 1000,
  };
  return {
    clock: systemClock,
    logger: silentLogger(),
    sandboxes: {
      ...sandboxMethods(record),
      guest: record("guest", fakeGuest()),
      busy: () => ({ [Symbol.dispose]: () => undefined }),
      withActivity: (_id: string, work: () => Promise<unknown>) => work(),
      commandDefaults: record("commandDefaults", {
        env: { HOME: "/home/user" },
        user: "user",
        cwd: "/home/user",
      }),
      opened: () => undefined,
      closed: () => undefined,
      touch: () => undefined,
    },
    events: { newestId: 0, stream: () => Readable.from([]) },
    tasks: {
      create: record("tasks.create", {}),
      get: record("tasks.get", {}),
      list: record("tasks.list", { items: [], nextCursor: null }),
    },
    tokens: {
      verify: (token: string) => Promise.resolve(TOKENS[token]),
      whenEnded: () => ({ [Symbol.dispose]: () => undefined }),
      list: record("tokens.list", []),
    },
    templates: { list: () => [] },
    previewAccess: {
      createCode: record("createCode", link),
      createLink: record("createLink", link),
      links: record("links", [link]),
      revokeLink: record("revokeLink", undefined),
    },
    status: record("status", {}),
  };
}

function sandboxMethods(
  record: (name: string, answer: unknown) => (...args: unknown[]) => Promise<unknown>,
) {
  const get = record("get", SANDBOX);
  return {
    create: record("create", SANDBOX),
    get: async (id: string) => {
      if (id !== ID) throw new BelljarError("SANDBOX_NOT_FOUND", `no sandbox ${id}`, { id });
      return get(id);
    },
    list: record("list", { items: [SANDBOX], nextCursor: null }),
    update: record("update", SANDBOX),
    destroy: record("destroy", undefined),
    freeze: record("freeze", SANDBOX),
    stop: record("stop", SANDBOX),
    wake: record("wake", SANDBOX),
    keepAlive: record("keepAlive", SANDBOX),
    putPreview: record("putPreview", SANDBOX.previews[0]),
    removePreview: record("removePreview", undefined),
    listPreviews: record("listPreviews", SANDBOX.previews),
  };
}

/** A guest whose every command prints its arguments and ends well. */
export function fakeGuest() {
  return {
    exec: (request: { command: string[] }) =>
      Promise.resolve({
        pid: 7,
        output: Readable.from([{ stream: "stdout", data: Buffer.from(request.command.join(" ")) }]),
        exited: Promise.resolve({
          exitCode: 0,
          signal: null,
          reason: "exited",
          maxRssBytes: 1,
          cpuTimeMs: 1,
        }),
        writeStdin: () => Promise.resolve(),
        endStdin: () => undefined,
        close: () => undefined,
      }),
  };
}

/** A connection to the API such as the gateway's front gives it. */
export function connectTo(api: HttpApi): Duplex {
  const [ours, theirs] = duplexPair();
  Object.defineProperty(theirs, "remoteAddress", { value: "192.0.2.1" });
  // As the gateway couples them: a half that is destroyed says nothing to the other one.
  ours.once("close", () => theirs.destroy());
  theirs.once("close", () => ours.destroy());
  api.server.emit("connection", theirs);
  return ours;
}

/** Everything that a connection says until it ends. */
export async function readAll(stream: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString("utf8");
}
