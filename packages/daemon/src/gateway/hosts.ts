import { parseSandboxId, type SandboxId } from "../kernel/index.ts";

/** Where a request goes, judged by its Host alone. */
export type HostRoute =
  | { readonly kind: "api" }
  | { readonly kind: "preview"; readonly id: SandboxId; readonly port: number }
  | { readonly kind: "unknown" };

export interface HostOptions {
  /** The base domain, lower case, for example `localhost` */
  readonly domain: string;
  /** More names of the API, lower case */
  readonly apiHosts?: readonly string[];
  /** One more spelling of preview hosts with `{port}`, `{id}` and optionally `{preview}`; for example `{id}--{port}.apps.example` */
  readonly publicHostTemplate?: string;
}

const ID = "(?<id>[a-z][a-z0-9]{19})";
const PORT = "(?<port>[1-9][0-9]{0,4})";
const ROUTE_CACHE_MAX = 1_024;
const API: HostRoute = { kind: "api" };
const UNKNOWN: HostRoute = { kind: "unknown" };

/** Decides hosts. One object a gateway; remembers the last names it was asked about. */
export class HostTable {
  readonly #apiHosts: ReadonlySet<string>;
  readonly #patterns: readonly RegExp[];
  readonly #known = new Map<string, HostRoute>();

  constructor(options: HostOptions) {
    const { domain, apiHosts = [], publicHostTemplate } = options;
    this.#apiHosts = new Set([
      "localhost",
      "127.0.0.1",
      "[::1]",
      domain,
      `api.${domain}`,
      ...apiHosts,
    ]);
    const templates = [`{port}-{id}.${domain}`, `s-{id}-{port}.preview.${domain}`];
    if (publicHostTemplate !== undefined) templates.push(publicHostTemplate);
    this.#patterns = templates.map(patternOf);
  }

  /** The route of a lower-case host name. The port beside it plays no part, since edges and forwards change it. */
  route(host: string): HostRoute {
    const known = this.#known.get(host);
    if (known !== undefined) return known;
    const route = this.#decide(host);
    if (this.#known.size >= ROUTE_CACHE_MAX) this.#known.clear();
    this.#known.set(host, route);
    return route;
  }

  #decide(host: string): HostRoute {
    if (this.#apiHosts.has(host)) return API;
    for (const pattern of this.#patterns) {
      const groups = pattern.exec(host)?.groups;
      const id = parseSandboxId(groups?.["id"] ?? "");
      const port = Number(groups?.["port"] ?? 0);
      if (id !== undefined && port >= 1 && port <= 65535) return { kind: "preview", id, port };
    }
    return UNKNOWN;
  }
}

function patternOf(template: string): RegExp {
  const source = template
    .toLowerCase()
    .split(/(\{[a-z]+\})/)
    .map((part) => {
      if (part === "{id}") return ID;
      if (part === "{port}") return PORT;
      if (part === "{preview}") return `${PORT}-${ID}`;
      return part.replace(/[^a-z0-9-]/g, String.raw`\$&`);
    })
    .join("");
  return new RegExp(`^${source}$`);
}
