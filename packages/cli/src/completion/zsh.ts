import { completionNodes, type CompletionNode, type Word } from "./tree.ts";
import { quote, renderPathArms } from "./posix.ts";

/** The script for a directory of zsh's \`fpath\`, or for \`source <(belljar completion zsh)\`. */
export function renderZsh(): string {
  const nodes = completionNodes();
  return `#compdef belljar
# zsh completion for belljar
_belljar() {
  local path= given=0 index word
  local -a candidates
  for ((index = 2; index < CURRENT; index++)); do
    word=\${words[index]}
    case $word in
      --data-dir|--url|--token) ((index++)) ;;
      -*) ;;
      *)
        case "$path $word" in
${renderPathArms(nodes)}
          *) given=1 ;;
        esac
        ;;
    esac
  done
  case "$path|\${words[CURRENT-1]}" in
${nodes.flatMap(renderValues).join("\n")}
  esac
  case $path in
${nodes.map(renderNode).join("\n")}
  esac
}
if [[ $funcstack[1] == _belljar ]]; then
  _belljar "$@"
else
  compdef _belljar belljar
fi
`;
}

function renderValues(node: CompletionNode): string[] {
  return node.options
    .filter((option) => option.takesValue)
    .map((option) => {
      const patterns = [
        option.word,
        ...(option.short === undefined ? [] : [`-${option.short}`]),
      ].map((word) => quote(`${node.path}|${word}`));
      const action =
        option.choices.length === 0 ? "_files" : `compadd -- ${option.choices.join(" ")}`;
      return `    ${patterns.join("|")}) ${action}; return ;;`;
    });
}

function renderNode(node: CompletionNode): string {
  const words: Word[] = node.words.length > 0 ? [...node.words] : [];
  const argument =
    node.argument === "sandbox"
      ? `(( given )) && _files || compadd -- \${(f)"$(belljar sandbox ls --quiet 2>/dev/null)"}`
      : node.argument === undefined
        ? "_files"
        : `compadd -- ${node.argument.join(" ")}`;
  const plain =
    words.length > 0
      ? `candidates=(${words.map(described).join(" ")}); _describe command candidates`
      : argument;
  return `    ${quote(node.path)})
      if [[ \${words[CURRENT]} == -* ]]; then
        candidates=(${node.options.map(described).join(" ")}); _describe option candidates
      else
        ${plain}
      fi
      ;;`;
}

function described(word: Word): string {
  return quote(`${word.word}:${word.summary}`);
}
