import type { CallOptions, Query, Transport } from "./transport.ts";

/** One page of a list, as the API answers it. */
export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
}

/** Options of lists. */
export interface ListOptions extends CallOptions {
  /** Items of one page, 1 to 1000; the default is 100 */
  pageSize?: number | undefined;
}

/** Every item of a paged list, page after page, asked for as the reader goes on. */
export async function* allPages<Item>(
  transport: Transport,
  spec: { path: string; query: Query },
  options: ListOptions,
): AsyncGenerator<Item> {
  let cursor: string | undefined;
  do {
    const query = { ...spec.query, limit: options.pageSize, cursor };
    const page = await transport.json<Page<Item>>({
      path: spec.path,
      query,
      signal: options.signal,
    });
    yield* page.items;
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
}
