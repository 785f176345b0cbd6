import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Child, startChild } from "../../tests/e2e/support/child.ts";
import { findProgram, freePort, until } from "../../tests/e2e/support/machine.ts";

/** Bytes of the page that every app of the preview rows serves. */
export const PAGE_BYTES = 1024;
/** Idle connections that each proxy may keep to the app, enough for every client connection. */
const UPSTREAM_KEEPALIVE = 64;

/** The paths that nginx needs, all below one directory, so that nothing of the host's is touched. */
function nginxBasics(directory: string, daemonOff: boolean): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${directory}/${name};`)
    .join("\n");
  return `worker_processes 1;
daemon ${daemonOff ? "off" : "on"};
pid ${directory}/nginx.pid;
error_log ${directory}/error.log crit;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
${temporary}
`;
}

/** An nginx that answers every request with one page of {@link PAGE_BYTES}. */
export function nginxAppConfig(
  directory: string,
  port: number,
  options: { daemonOff: boolean },
): string {
  const page = "x".repeat(PAGE_BYTES);
  return `${nginxBasics(directory, options.daemonOff)}
  server {
    listen 127.0.0.1:${port};
    default_type text/plain;
    location / { return 200 "${page}"; }
  }
}
`;
}

function nginxProxyConfig(directory: string, port: number, appPort: number): string {
  return `${nginxBasics(directory, true)}
  upstream app { server 127.0.0.1:${appPort}; keepalive ${UPSTREAM_KEEPALIVE}; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host;
    }
  }
}
`;
}

function caddyConfig(port: number, appPort: number): string {
  return `{
  admin off
  auto_https off
  servers {
    protocols h1
  }
  log default {
    output discard
  }
}
http://:${port} {
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:${appPort} {
    transport http {
      keepalive_idle_conns ${UPSTREAM_KEEPALIVE}
      keepalive_idle_conns_per_host ${UPSTREAM_KEEPALIVE}
    }
  }
}
`;
}

/** A web server that a bench started on 127.0.0.1. */
export interface WebServer extends AsyncDisposable {
  readonly name: string;
  readonly port: number;
}

async function answering(name: string, child: Child, port: number): Promise<WebServer> {
  await until(`${name} answers`, async () => {
    if (child.process.exitCode !== null) throw new Error(`${name} ended:\n${child.output()}`);
    try {
      return (await fetch(`http://127.0.0.1:${port}/`)).ok;
    } catch {
      return false;
    }
  });
  return { name, port, [Symbol.asyncDispose]: () => child.stop() };
}

async function startNginx(
  name: string,
  directory: string,
  config: (at: string, port: number) => string,
) {
  const at = path.join(directory, name);
  mkdirSync(at, { recursive: true });
  const port = await freePort();
  writeFileSync(path.join(at, "nginx.conf"), config(at, port));
  const program = findProgram("nginx") ?? "nginx";
  // `user` is left to the compiled default, which exists wherever the package is installed.
  const child = await startChild([
    program,
    "-e",
    "stderr",
    "-p",
    at,
    "-c",
    path.join(at, "nginx.conf"),
  ]);
  return answering(name, child, port);
}

/** The app of the peers: what our sandbox runs, on the host itself. */
export function startHostApp(directory: string): Promise<WebServer> {
  return startNginx("app", directory, (at, port) => nginxAppConfig(at, port, { daemonOff: true }));
}

/** nginx as a reverse proxy: one worker, keep-alive to the app. */
export function startNginxProxy(directory: string, appPort: number): Promise<WebServer> {
  return startNginx("nginx", directory, (at, port) => nginxProxyConfig(at, port, appPort));
}

/** Caddy as a reverse proxy: one process, on every core unless `coreCount` says how many. */
export async function startCaddyProxy(
  directory: string,
  appPort: number,
  coreCount?: number,
): Promise<WebServer> {
  const at = path.join(directory, `caddy-${coreCount ?? "all"}`);
  const limit = coreCount === undefined ? {} : { GOMAXPROCS: String(coreCount) };
  mkdirSync(at, { recursive: true });
  const port = await freePort();
  const config = path.join(at, "Caddyfile");
  writeFileSync(config, caddyConfig(port, appPort));
  const child = await startChild(
    [findProgram("caddy") ?? "caddy", "run", "--adapter", "caddyfile", "--config", config],
    { env: { ...process.env, ...limit, HOME: at, XDG_DATA_HOME: at, XDG_CONFIG_HOME: at } },
  );
  return answering("caddy", child, port);
}

/** A plain Node reverse proxy, the usual way: `http.request` with a keep-alive agent. */
export async function startNodeProxy(appPort: number): Promise<WebServer> {
  const port = await freePort();
  const program = new URL("node-proxy.ts", import.meta.url).pathname;
  const child = await startChild([process.execPath, program, String(port), String(appPort)]);
  return answering("node proxy", child, port);
}
