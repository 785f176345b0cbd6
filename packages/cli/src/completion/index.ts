/** Completion scripts for shells, made from the command table. */
import { UsageError } from "../failure.ts";
import { renderBash } from "./bash.ts";
import { renderFish } from "./fish.ts";
import { renderZsh } from "./zsh.ts";

/** The script for `bash`, `zsh` or `fish`. */
export function renderCompletion(shell: string): string {
  if (shell === "bash") return renderBash();
  if (shell === "zsh") return renderZsh();
  if (shell === "fish") return renderFish();
  throw new UsageError(`no completion for "${shell}"`, "There are scripts for bash, zsh and fish.");
}
