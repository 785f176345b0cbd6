import { BelljarError } from "@belljar/protocol";
import type { SandboxRecord } from "./registry.ts";
import type { ListSandboxesQuery } from "./service.ts";
import { visibleState } from "./state.ts";

const CURSOR = /^([0-9]{1,16})\.([a-z][a-z0-9]{19})$/;

/** One page of the records that match, newest first. */
export function listSandboxes(
  all: Iterable<SandboxRecord>,
  query: ListSandboxesQuery,
): { records: SandboxRecord[]; nextCursor: string | null } {
  const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor);
  const matching = [...all].filter((record) => isMatch(record, query));
  const sorted = matching.toSorted(compareNewestFirst);
  const start =
    after === undefined ? 0 : sorted.findIndex((record) => comparePosition(record, after) > 0);
  const records = start === -1 ? [] : sorted.slice(start, start + query.limit);
  const last = records.at(-1);
  const hasMore = start !== -1 && start + query.limit < sorted.length;
  return { records, nextCursor: hasMore && last !== undefined ? encodeCursor(last) : null };
}

interface Position {
  readonly createdAtMs: number;
  readonly id: string;
}

function isMatch(record: SandboxRecord, query: ListSandboxesQuery): boolean {
  const { row } = record;
  const state = visibleState(row.state, row.pending);
  if (query.state === undefined ? state === "destroyed" : state !== query.state) return false;
  if (query.name !== undefined && row.name !== query.name) return false;
  return Object.entries(query.metadata ?? {}).every(([key, value]) => row.metadata[key] === value);
}

function compareNewestFirst(a: SandboxRecord, b: SandboxRecord): number {
  return comparePosition(a, { createdAtMs: b.row.createdAtMs, id: b.id });
}

/** Above 0 when the record comes after the position. */
function comparePosition(record: SandboxRecord, position: Position): number {
  const byTime = position.createdAtMs - record.row.createdAtMs;
  if (byTime !== 0) return byTime;
  return record.id === position.id ? 0 : record.id < position.id ? 1 : -1;
}

function encodeCursor(record: SandboxRecord): string {
  return Buffer.from(`${record.row.createdAtMs}.${record.id}`).toString("base64url");
}

function decodeCursor(cursor: string): Position {
  const match = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new BelljarError("BAD_REQUEST", "the cursor comes from no list of this daemon", {
      cursor,
    });
  }
  return { createdAtMs: Number(match[1]), id: match[2] };
}
