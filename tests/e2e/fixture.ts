import { Belljar } from "@belljar/sdk";
import { test as base, expect } from "vitest";
import type { Api } from "./support/api.ts";
import { type DaemonProcess, startDaemon, stopAndLook } from "./support/daemon-process.ts";

/** What every end-to-end test can ask for. */
export interface Fixture {
  /** The real daemon, one a file, on its own data directory and port */
  readonly daemon: DaemonProcess;
  /** The API as a plain HTTP client sees it */
  readonly api: Api;
  /** The API as people's programs see it */
  readonly belljar: Belljar;
  /** Creates a sandbox that the end of the test destroys */
  readonly createSandbox: (request?: Parameters<Api["create"]>[0]) => ReturnType<Api["create"]>;
}

/**
 * The one fixture of the end-to-end tests. Starting it proves that the daemon comes up on an empty
 * directory; ending it proves that no process, mount, cgroup or socket is left behind.
 */
export const test = base.extend<Fixture>({
  daemon: [
    // eslint-disable-next-line no-empty-pattern -- vitest reads a fixture's needs from this pattern
    async ({}, use) => {
      await using daemon = await startDaemon();
      await use(daemon);
      const left = await stopAndLook(daemon);
      expect(left).toEqual({ processes: [], mounts: [], cgroups: [], sockets: [] });
    },
    { scope: "file" },
  ],
  api: async ({ daemon }, use) => use(daemon.api),
  belljar: async ({ daemon }, use) => use(new Belljar({ url: daemon.url, token: daemon.token })),
  createSandbox: async ({ daemon }, use) => {
    const ids: string[] = [];
    await use(async (request) => {
      const sandbox = await daemon.api.create(request);
      daemon.sandboxIds.add(sandbox.id);
      ids.push(sandbox.id);
      return sandbox;
    });
    await Promise.all(ids.map((id) => daemon.api.call("DELETE", `/v1/sandboxes/${id}`)));
  },
});

export { expect } from "vitest";
