import type { DaemonEvent, Status, Template } from "@belljar/protocol";
import type { FollowOptions } from "./event-stream.ts";
import { followEvents } from "./event-stream.ts";
import type { ListOptions } from "./pages.ts";
import { allPages } from "./pages.ts";
import { Sandboxes } from "./sandboxes.ts";
import { Tasks } from "./tasks.ts";
import { Tokens } from "./tokens.ts";
import type { CallOptions, ConnectionOptions } from "./transport.ts";
import { Transport } from "./transport.ts";

/**
 * A daemon, seen through its API.
 *
 * @example
 * const belljar = new Belljar({ url: "http://127.0.0.1:7070", token });
 * const sandbox = await belljar.sandboxes.create({ template: "host" });
 * const { stdout } = await sandbox.exec("uname -a");
 */
export class Belljar {
  /** Sandboxes: create, get, list */
  readonly sandboxes: Sandboxes;
  /** Tasks of any sandbox */
  readonly tasks: Tasks;
  /** API tokens */
  readonly tokens: Tokens;
  readonly #transport: Transport;

  /** @throws BAD_REQUEST when `url` is no http or https URL. */
  constructor(options: ConnectionOptions) {
    this.#transport = new Transport(options);
    this.sandboxes = new Sandboxes(this.#transport);
    this.tasks = new Tasks(this.#transport);
    this.tokens = new Tokens(this.#transport);
  }

  /** What the daemon is, what it can seal with, and what it has left. */
  status(options: CallOptions = {}): Promise<Status> {
    return this.#transport.json({ path: "/v1/status", signal: options.signal });
  }

  /** Templates that sandboxes can start from. */
  templates(options: ListOptions = {}): AsyncGenerator<Template> {
    return allPages<Template>(this.#transport, { path: "/v1/templates", query: {} }, options);
  }

  /** Everything that happens, from now on or after `since`, over as many connections as it takes. */
  events(
    options: FollowOptions & { sandboxId?: string | undefined } = {},
  ): AsyncGenerator<DaemonEvent> {
    const spec = {
      path: "/v1/events",
      query: { sandboxId: options.sandboxId },
      idOf: (event: DaemonEvent) => event.id,
      isLast: () => false,
    };
    return followEvents<DaemonEvent>(this.#transport, spec, options);
  }
}
