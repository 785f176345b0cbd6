import type { CreateSandboxRequest, Sandbox as SandboxInfo, SandboxState } from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import type { ListOptions } from "./pages.ts";
import { allPages } from "./pages.ts";
import { Sandbox } from "./sandbox.ts";
import type { CallOptions, CreateOptions, Transport } from "./transport.ts";

/** Filters of {@link Sandboxes.list}; all of them must match. */
export interface ListSandboxesOptions extends ListOptions {
  state?: SandboxState | undefined;
  name?: string | undefined;
  metadata?: Record<string, string> | undefined;
}

/** The daemon's sandboxes, made by `belljar.sandboxes`. */
export class Sandboxes {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes a sandbox and starts it.
   * @throws TEMPLATE_NOT_FOUND, SANDBOX_NAME_TAKEN, SANDBOX_LIMIT_REACHED, MEMORY_EXHAUSTED, LIMIT_UNSUPPORTED.
   *
   * @example
   * const sandbox = await belljar.sandboxes.create({ template: "host", ports: [3000] });
   */
  async create(request: CreateSandboxRequest = {}, options: CreateOptions = {}): Promise<Sandbox> {
    const spec = { method: "POST" as const, path: "/v1/sandboxes", json: request, ...options };
    return new Sandbox(this.#transport, await this.#transport.json<SandboxInfo>(spec));
  }

  /** A sandbox by its id. @throws SANDBOX_NOT_FOUND. */
  async get(id: string, options: CallOptions = {}): Promise<Sandbox> {
    const path = `/v1/sandboxes/${encodeURIComponent(id)}`;
    return new Sandbox(
      this.#transport,
      await this.#transport.json<SandboxInfo>({ path, signal: options.signal }),
    );
  }

  /** A sandbox by its name. @throws SANDBOX_NOT_FOUND. */
  async byName(name: string, options: CallOptions = {}): Promise<Sandbox> {
    for await (const sandbox of this.list({ ...options, name, pageSize: 1 })) return sandbox;
    throw new BelljarError("SANDBOX_NOT_FOUND", `no sandbox is named ${name}`, { name });
  }

  /** Every sandbox that matches, newest first, page after page. */
  async *list(options: ListSandboxesOptions = {}): AsyncGenerator<Sandbox> {
    const { state, name, metadata } = options;
    const pairs = Object.entries(metadata ?? {}).map(([key, value]) => `${key}:${value}`);
    const query = { state, name, metadata: pairs.length === 0 ? undefined : pairs };
    for await (const info of allPages<SandboxInfo>(
      this.#transport,
      { path: "/v1/sandboxes", query },
      options,
    )) {
      yield new Sandbox(this.#transport, info);
    }
  }
}
