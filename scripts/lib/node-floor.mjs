/** Keeps an old Node from failing with a syntax error where one sentence helps more. */
const NODE_FLOOR = [20, 19];

function isNodeTooOld() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major < NODE_FLOOR[0] || (major === NODE_FLOOR[0] && minor < NODE_FLOOR[1]);
}

/** Loads a command's module and runs its `main(args)`; the module is not even parsed by an old Node. */
export async function runCommand(load) {
  if (isNodeTooOld()) {
    const floor = NODE_FLOOR.join(".");
    process.stderr.write(`belljar: Node ${floor} or newer is needed; this is ${process.version}\n`);
    process.exitCode = 1;
    return;
  }
  const command = await load();
  await command.main(process.argv.slice(2));
}
