import type {
  Belljar,
  OutputChunk,
  RunningCommand,
  Sandbox,
  SpawnOptions,
  WebSocketConstructor,
} from "@belljar/sdk";
import { BelljarError } from "@belljar/protocol";
import { Belljar as BelljarClient } from "@belljar/sdk";
import { ClientSocket } from "./client-socket.ts";
import type { Context } from "./command.ts";
import { resolveConnection } from "./connection.ts";

const SANDBOX_ID = /^[a-z][a-z0-9]{19}$/;

/** A command whose output holds the daemon back while it lies unread. */
export interface StreamedCommand {
  readonly command: RunningCommand;
  readonly output: AsyncIterable<OutputChunk>;
}

/** The daemon, as commands use it. */
export class Client {
  readonly belljar: Belljar;
  readonly #sockets: ClientSocket[] = [];

  constructor(connection: { url: string; token: string }) {
    const sockets = this.#sockets;
    class Socket extends ClientSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols, (socket) => sockets.push(socket));
      }
    }
    // ws has the part of the browser's interface that the client library uses, under other type names.
    this.belljar = new BelljarClient({
      ...connection,
      WebSocket: Socket as unknown as WebSocketConstructor,
    });
  }

  /** A sandbox by id, or by name. */
  async sandbox(idOrName: string, signal: AbortSignal): Promise<Sandbox> {
    if (SANDBOX_ID.test(idOrName)) {
      try {
        return await this.belljar.sandboxes.get(idOrName, { signal });
      } catch (error) {
        // A name may look like an id.
        if (!BelljarError.is(error, "SANDBOX_NOT_FOUND")) throw error;
      }
    }
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(idOrName)) {
      throw new BelljarError("SANDBOX_NOT_FOUND", `no sandbox is called "${idOrName}"`, {
        sandbox: idOrName,
      });
    }
    return this.belljar.sandboxes.byName(idOrName, { signal });
  }

  /** Starts a command with streams that hold back. */
  async spawn(
    sandbox: Sandbox,
    command: string[],
    options: SpawnOptions,
  ): Promise<StreamedCommand> {
    const opening = sandbox.spawn(command, options);
    // The library opens the socket before it first waits, so this is the one that belongs to the command.
    const socket = this.#sockets.pop();
    const running = await opening;
    return { command: running, output: measured(running.output, socket) };
  }
}

/** A client for the daemon that the context names. */
export async function openClient(context: Context): Promise<Client> {
  return new Client(await resolveConnection(context.globals));
}

async function* measured(
  output: AsyncIterable<OutputChunk>,
  socket: ClientSocket | undefined,
): AsyncGenerator<OutputChunk> {
  for await (const chunk of output) {
    yield chunk;
    socket?.consumed(chunk.data.byteLength);
  }
}
