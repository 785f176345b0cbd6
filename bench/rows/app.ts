import type { Sandbox } from "@belljar/protocol";
import { previewHost } from "../../tests/e2e/support/preview.ts";
import { findProgram, until } from "../../tests/e2e/support/machine.ts";
import type { Bench } from "../bench.ts";
import { nginxAppConfig } from "../peers/web.ts";

/** Port of the app in every sandbox of the preview rows. */
export const APP_PORT = 8080;
const APP_DIRECTORY = "/home/user/nginx";
/** The app runs as `user`, and writes beside its configuration */
const AS_USER = "&user=user";

/** nginx as a command inside a sandbox, in the foreground or going into the background by itself. */
export function appCommand(name: string): string[] {
  const program = findProgram("nginx") ?? "/usr/sbin/nginx";
  return [program, "-e", "stderr", "-p", APP_DIRECTORY, "-c", `${APP_DIRECTORY}/${name}.conf`];
}

/** Where the gateway serves the app of `sandbox`. */
export function previewOf({ daemon }: Bench, id: string): { host: string; url: string } {
  return { host: previewHost(id, APP_PORT, daemon.port), url: `http://127.0.0.1:${daemon.port}/` };
}

/** A sandbox whose start command is the app, public, answering. */
export async function createAppSandbox(bench: Bench): Promise<Sandbox> {
  const { api } = bench.daemon;
  // The configuration is in the workspace before the start command first runs: the command waits
  // for it once, and finds it there at every later start.
  const wait = `until [ -e ${APP_DIRECTORY}/app.conf ]; do sleep 0.02; done; exec "$@"`;
  const sandbox = await api.create({
    ports: [APP_PORT],
    visibility: "public",
    start: { command: ["/bin/sh", "-c", wait, "app", ...appCommand("app")] },
  });
  const config = nginxAppConfig(APP_DIRECTORY, APP_PORT, { daemonOff: true });
  const background = nginxAppConfig(APP_DIRECTORY, APP_PORT + 1, { daemonOff: false });
  await api.write(sandbox.id, `${APP_DIRECTORY}/second.conf`, background, AS_USER);
  await api.write(sandbox.id, `${APP_DIRECTORY}/app.conf`, config, AS_USER);
  const { host } = previewOf(bench, sandbox.id);
  await until("the app answers through its preview", async () => {
    const answer = await api.call("GET", "/", { headers: { host } });
    return answer.status === 200;
  });
  return sandbox;
}

/** Milliseconds from a request on a fresh connection to the head of the app's answer. */
export async function firstByte(bench: Bench, id: string): Promise<number> {
  const { host } = previewOf(bench, id);
  const answer = await bench.daemon.api.call("GET", "/", { headers: { host } });
  if (answer.status !== 200)
    throw new Error(`preview answered ${answer.status}: ${answer.body.toString()}`);
  return answer.headMs;
}
