import { createHash } from "node:crypto";

/** One file of a root file system that is to be written. Paths are relative to its root, without `..`. */
export type RootEntry =
  | {
      readonly kind: "directory";
      readonly path: string;
      readonly mode: number;
      readonly uid?: number;
    }
  | {
      readonly kind: "file";
      readonly path: string;
      readonly mode: number;
      readonly content: Buffer;
      readonly uid?: number;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string };

/** Names a root file system by everything that is in it, so a changed host makes another one. */
export function hashEntries(entries: readonly RootEntry[], extra: unknown): string {
  const hash = createHash("sha256").update(JSON.stringify(extra));
  for (const entry of entries) {
    const { kind, path } = entry;
    hash.update(
      JSON.stringify(
        entry.kind === "symlink"
          ? [kind, path, entry.target]
          : [kind, path, entry.mode, entry.uid ?? 0],
      ),
    );
    if (entry.kind === "file") hash.update(String(entry.content.length)).update(entry.content);
  }
  return hash.digest("hex").slice(0, 16);
}
