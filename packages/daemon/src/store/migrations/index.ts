import type { Migration } from "kysely/migration";
import { initial } from "./0001-initial.ts";

/** Every migration by its name; names sort in the order they run, and none is ever changed. */
export const MIGRATIONS: Record<string, Migration> = {
  "0001-initial": initial,
};
