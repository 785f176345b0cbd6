import type { RouteOptions } from "fastify";
import { invariant } from "../kernel/index.ts";
import type { RoutePolicy } from "./services.ts";

const POLICIES: ReadonlySet<unknown> = new Set<RoutePolicy>(["public", "read", "operate", "admin"]);

interface RouteEntry {
  readonly method: string;
  readonly url: string;
  readonly policy: RoutePolicy;
  readonly pattern: RegExp;
}

/** Every route that was registered, with its policy. A route without one is refused: the daemon does not start. */
export class RouteTable {
  readonly #entries: RouteEntry[] = [];

  /** For fastify's `onRoute`. */
  add(options: RouteOptions): void {
    const policy = options.config?.policy;
    const methods = [options.method].flat();
    invariant(isPolicy(policy), `route ${methods.join(",")} ${options.url} declares no policy`);
    // fastify adds HEAD to each GET by itself, with the GET's own configuration.
    for (const method of methods) {
      this.#entries.push({ method, url: options.url, policy, pattern: patternOf(options.url) });
    }
  }

  /** Methods of the routes whose path matches. */
  methodsOf(path: string): string[] {
    const methods = this.#entries
      .filter(({ pattern }) => pattern.test(path))
      .map(({ method }) => method);
    return [...new Set(methods)].toSorted();
  }

  /** `GET /v1/status read`, sorted, for the snapshot of the surface. */
  list(): string[] {
    return this.#entries
      .filter(({ method }) => method !== "HEAD")
      .map(({ method, url, policy }) => `${method} ${url} ${policy}`)
      .toSorted();
  }
}

function isPolicy(policy: unknown): policy is RoutePolicy {
  return POLICIES.has(policy);
}

function patternOf(url: string): RegExp {
  const parts = url
    .split("/")
    .map((part) => (part.startsWith(":") ? "[^/]+" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
  return new RegExp(`^${parts.join("/")}$`);
}
