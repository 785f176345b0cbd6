import type { Config } from "./config/index.ts";

/** Every name and URL that follows from the configuration and the port in use. */
export interface Addresses {
  /** Host names of the API besides those that the gateway knows by itself */
  readonly apiHosts: readonly string[];
  readonly isApiHost: (host: string) => boolean;
  /** Spelling of preview hosts behind an edge, without scheme and port */
  readonly publicHostTemplate: string | undefined;
  readonly apiUrl: () => string;
  readonly previewUrl: (id: string, port: number) => string;
}

const ANY_ADDRESS: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** `portInUse` is asked late: a free port is known only once the gateway listens. */
export function addressesOf(config: Config, portInUse: () => number): Addresses {
  const { server, previews } = config;
  const publicUrl = server.publicUrl === null ? undefined : new URL(server.publicUrl);
  const listenHost = server.host.includes(":") ? `[${server.host}]` : server.host.toLowerCase();
  const apiHosts = [...server.apiHosts];
  if (publicUrl !== undefined) apiHosts.push(publicUrl.hostname);
  if (!ANY_ADDRESS.has(server.host)) apiHosts.push(listenHost);
  const { domain } = previews;
  const all = new Set(["localhost", "127.0.0.1", "[::1]", domain, `api.${domain}`, ...apiHosts]);
  const template = previews.publicUrlTemplate?.replace(/\/$/, "");
  return {
    apiHosts,
    isApiHost: (host) => all.has(host),
    publicHostTemplate: template?.replace(/^https?:\/\//, "").replace(/:[0-9]+$/, ""),
    apiUrl() {
      if (publicUrl !== undefined) return publicUrl.href.replace(/\/$/, "");
      const host = ANY_ADDRESS.has(server.host) ? "127.0.0.1" : listenHost;
      return `http://${host}:${portInUse()}`;
    },
    previewUrl(id, port) {
      if (template !== undefined) {
        return template
          .replace("{preview}", `${port}-${id}`)
          .replace("{port}", String(port))
          .replace("{id}", id);
      }
      const host = `${port}-${id}.${domain}`;
      if (publicUrl === undefined) return `http://${host}:${portInUse()}`;
      return `${publicUrl.protocol}//${host}${publicUrl.port === "" ? "" : `:${publicUrl.port}`}`;
    },
  };
}
