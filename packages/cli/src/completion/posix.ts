import type { CompletionNode } from "./tree.ts";

/** A word that bash and zsh take as it is. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The arms of the `case` that bash and zsh walk a command line's words with: path so far and word → new path. */
export function renderPathArms(nodes: readonly CompletionNode[]): string {
  return nodes
    .filter(({ path }) => path !== "")
    .map(({ path }) => {
      const soFar = path.includes(" ") ? path : ` ${path}`;
      return `          ${quote(soFar)}) path=${quote(path)} ;;`;
    })
    .join("\n");
}
