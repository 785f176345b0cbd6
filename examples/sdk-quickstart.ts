// A sandbox from a program: make it, run a command, write a file, show a port.
//
//   belljar up --detach
//   BELLJAR_URL=http://127.0.0.1:7070 BELLJAR_TOKEN=bj_… npx node examples/sdk-quickstart.ts
import { Belljar } from "@belljar/sdk";

const { BELLJAR_URL: url = "http://127.0.0.1:7070", BELLJAR_TOKEN: token } = process.env;
const belljar = new Belljar({ url, token });

const sandbox = await belljar.sandboxes.create({
  ports: [3000],
  metadata: { example: "sdk-quickstart" },
});
try {
  const { stdout } = await sandbox.exec(["node", "--version"]);
  console.log(`node ${stdout.trim()} in sandbox ${sandbox.id}`);

  const source =
    'require("http").createServer((_, answer) => answer.end("hello\\n")).listen(3000, "127.0.0.1")';
  await sandbox.files.write("/home/user/server.cjs", source);
  await sandbox.processes.start({ command: ["node", "/home/user/server.cjs"], tag: "server" });

  // The URL works once, for 60 seconds, in a browser; a program sends its token instead.
  const { url: opened } = await sandbox.previews.open(3000);
  console.log(`open ${opened}`);

  const task = await sandbox.tasks.create({ command: "sleep 1; echo done" });
  const outcome = await task.wait();
  console.log(`task ${outcome.state}: ${outcome.stdoutTail.trim()}`);
} finally {
  await sandbox.destroy();
}
