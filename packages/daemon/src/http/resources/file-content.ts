import {
  fileStatSchema,
  readFileQuerySchema,
  watchQuerySchema,
  writeFileQuerySchema,
} from "@belljar/protocol";
import { invariant } from "../../kernel/index.ts";
import { filesOf } from "../file-user.ts";
import { toFileStat } from "../guest-views.ts";
import { clientGone, sandboxParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";
import { sendEvents } from "../sse.ts";

const TAGS = ["files"];

/** Bytes of files, streamed both ways, and the stream of changes. Nothing of a file is kept in memory here. */
export function registerFileContent(api: Api, context: RouteContext): void {
  registerRead(api, context);
  registerWrite(api, context);
  registerWatch(api, context);
}

function registerRead(api: Api, { sandboxes, tokens }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/files/content",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "readFile",
        summary: "Read a file, or a part of it",
        params: sandboxParams,
        querystring: readFileQuerySchema.strict(),
        produces: ["application/octet-stream"],
      },
    },
    async ({ params: { id }, query, identity }, reply) => {
      invariant(identity !== null, "a route with a policy has a caller");
      // A reader may take its time, but no longer than its token lasts.
      const tokenEnd = new AbortController();
      const listening = tokens.whenEnded(identity, () => tokenEnd.abort());
      reply.raw.once("close", () => listening[Symbol.dispose]());
      const signal = AbortSignal.any([clientGone(reply), tokenEnd.signal]);
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      const { path, offset, length } = query;
      const { stat, body } = await guest.readFile(path, {
        offset,
        signal,
        user,
        ...(length === undefined ? {} : { length }),
      });
      sandboxes.opened(id);
      body.once("close", () => sandboxes.closed(id));
      const end = () => body.destroy();
      signal.addEventListener("abort", end, { once: true });
      body.once("close", () => signal.removeEventListener("abort", end));
      // No Content-Length: a file that shrinks while it is read would break the connection's framing.
      return reply
        .header("content-type", "application/octet-stream")
        .header("x-belljar-file-size", String(stat.size))
        .header("x-belljar-file-mode", stat.mode.toString(8).padStart(4, "0"))
        .send(body);
    },
  );
}

function registerWrite(api: Api, { sandboxes }: RouteContext): void {
  void api.register((scope: Api, _options, done) => {
    // The body goes to the guest as it comes, whatever its type says.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, _payload, parsed) => parsed(null));
    scope.put(
      "/v1/sandboxes/:id/files/content",
      {
        config: { policy: "operate", streamsBody: true },
        schema: {
          tags: TAGS,
          operationId: "writeFile",
          summary: "Write a file of any size; it appears whole or not at all",
          consumes: ["application/octet-stream"],
          params: sandboxParams,
          querystring: writeFileQuerySchema.strict(),
          response: { 200: fileStatSchema },
        },
      },
      async ({ params: { id }, query, raw }, reply) => {
        const signal = clientGone(reply);
        const { guest, user } = await filesOf(sandboxes, id, query.user);
        const { path, mode, parents } = query;
        return sandboxes.withActivity(id, async () => {
          const stat = await guest.writeFile(path, raw, {
            parents,
            signal,
            user,
            ...(mode === undefined ? {} : { mode: Number.parseInt(mode, 8) }),
          });
          return toFileStat(stat, path);
        });
      },
    );
    done();
  });
}

function registerWatch(api: Api, context: RouteContext): void {
  const { sandboxes } = context;
  api.get(
    "/v1/sandboxes/:id/files/watch",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "watchFiles",
        summary:
          "Follow changes below a directory (server-sent events `change`, `overflow`, `error`)",
        params: sandboxParams,
        querystring: watchQuerySchema.strict(),
        produces: ["text/event-stream"],
      },
    },
    async ({ params: { id }, query }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      const { path, recursive } = query;
      const watch = await guest.watch(path, { recursive, user, signal: clientGone(reply) });
      sandboxes.opened(id);
      try {
        await sendEvents(reply, context, async function* changes(signal) {
          signal.addEventListener("abort", () => void watch.return?.(), { once: true });
          for await (const { kind, path: changed, fromPath } of watch) {
            sandboxes.touch(id);
            const data = { kind, path: changed, ...(fromPath === undefined ? {} : { fromPath }) };
            yield { event: kind === "overflow" ? "overflow" : "change", data };
          }
        });
      } finally {
        sandboxes.closed(id);
      }
    },
  );
}
