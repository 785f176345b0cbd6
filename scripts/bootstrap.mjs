/**
 * `node scripts/bootstrap.mjs [--for tests|bench] [--build-only] [--quiet] [--json]`: sets this tree
 * up. It runs before anything is installed, so it and scripts/lib use Node's own modules alone.
 */
const NODE_FLOOR = [20, 19];

function isNodeTooOld() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major < NODE_FLOOR[0] || (major === NODE_FLOOR[0] && minor < NODE_FLOOR[1]);
}

async function start() {
  if (isNodeTooOld()) {
    const floor = NODE_FLOOR.join(".");
    process.stderr.write(`belljar: Node ${floor} or newer is needed; this is ${process.version}\n`);
    process.exitCode = 1;
    return;
  }
  // Imported here, since an old Node cannot even parse what it loads.
  const { main } = await import("./lib/bootstrap-command.mjs");
  await main(process.argv.slice(2));
}

void start();
