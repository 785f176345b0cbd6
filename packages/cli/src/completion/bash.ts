import { completionNodes } from "./tree.ts";
import { quote, renderPathArms } from "./posix.ts";

/** The script that `eval "$(belljar completion bash)"` runs. */
export function renderBash(): string {
  const nodes = completionNodes();
  const values = new Map<string, string>();
  for (const node of nodes) {
    for (const option of node.options.filter((each) => each.takesValue)) {
      values.set(`${node.path}|${option.word}`, option.choices.join(" "));
      if (option.short !== undefined)
        values.set(`${node.path}|-${option.short}`, option.choices.join(" "));
    }
  }
  return `# bash completion for belljar
_belljar() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path= words= options= argument= given=0 index word
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    case $word in
      --data-dir | --url | --token) ((index++)) ;;
      -*) ;;
      *)
        case "$path \${word}" in
${renderPathArms(nodes)}
          *) given=1 ;;
        esac
        ;;
    esac
  done
  case "$path|$previous" in
${[...values].map(([key, choices]) => `    ${quote(key)}) COMPREPLY=(${choices === "" ? `$(compgen -f -- "$current")` : `$(compgen -W ${quote(choices)} -- "$current")`}); return ;;`).join("\n")}
  esac
  case $path in
${nodes
  .map((node) => {
    const argument = node.argument === "sandbox" ? "@sandbox" : (node.argument ?? []).join(" ");
    return `    ${quote(node.path)}) words=${quote(node.words.map((word) => word.word).join(" "))} options=${quote(node.options.map((option) => option.word).join(" "))} argument=${quote(argument)} ;;`;
  })
  .join("\n")}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ $argument == @sandbox && $given -eq 0 ]]; then
    COMPREPLY=($(compgen -W "$(belljar sandbox ls --quiet 2>/dev/null)" -- "$current"))
  elif [[ -n $argument && $argument != @sandbox && $given -eq 0 ]]; then
    COMPREPLY=($(compgen -W "$argument" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -F _belljar belljar
`;
}
