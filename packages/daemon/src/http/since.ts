import { BelljarError } from "@belljar/protocol";
import type { FastifyRequest } from "fastify";

/** Where a stream goes on: `Last-Event-ID` wins, as a reconnecting browser keeps the URL it began with. */
export function sinceOf(request: FastifyRequest, query: number | undefined): number | undefined {
  const header = request.headers["last-event-id"];
  if (header === undefined || header === "") return query;
  if (typeof header !== "string" || !/^[0-9]{1,15}$/.test(header)) {
    throw new BelljarError("BAD_REQUEST", "Last-Event-ID: must be the id of an event");
  }
  return Number(header);
}
