import { completionNodes, type CompletionNode, type CompletionOption } from "./tree.ts";

/** The script for `~/.config/fish/completions/belljar.fish`. */
export function renderFish(): string {
  const nodes = completionNodes();
  return `# fish completion for belljar
function __belljar_path
    set -l path
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
            continue
        end
        switch $word
            case --data-dir --url --token
                set skip 1
            case '-*'
            case '*'
                test (count $path) -lt 2; and set -a path $word
        end
    end
    echo "$path"
end
function __belljar_at
    set -l path (__belljar_path)
    test "$path" = "$argv[1]"
end
function __belljar_below
    string match -q -- "$argv[1]*" (__belljar_path)
end
complete -c belljar -f
${nodes.flatMap(renderNode).join("\n")}
`;
}

function renderNode(node: CompletionNode): string[] {
  const lines = node.words.map(
    (word) =>
      `complete -c belljar -n ${quote(`__belljar_at ${fishText(node.path)}`)} -a ${quote(word.word)} -d ${quote(word.summary)}`,
  );
  const condition = quote(node.path === "" ? "true" : `__belljar_below ${fishText(node.path)}`);
  if (node.argument !== undefined) {
    const values =
      node.argument === "sandbox"
        ? "(belljar sandbox ls --quiet 2>/dev/null)"
        : node.argument.join(" ");
    lines.push(`complete -c belljar -n ${condition} -a ${quote(values)}`);
  }
  return [...lines, ...node.options.map((option) => renderOption(option, condition))];
}

function renderOption(option: CompletionOption, condition: string): string {
  const parts = [`complete -c belljar -n ${condition} -l ${option.word.slice(2)}`];
  if (option.short !== undefined) parts.push(`-s ${option.short}`);
  if (option.takesValue)
    parts.push(option.choices.length === 0 ? "-r -F" : `-x -a ${quote(option.choices.join(" "))}`);
  return `${parts.join(" ")} -d ${quote(option.summary)}`;
}

function fishText(path: string): string {
  return `"${path}"`;
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
