// A web server without dependencies. Run it in a sandbox and open its port as a preview:
//
//   belljar sandbox create --name hello --port 3000 \
//     --start 'until [ -d hello-http ]; do sleep 0.1; done; exec node hello-http/server.mjs' --start-cwd /home/user
//   belljar sandbox cp examples/hello-http hello:/home/user
//   belljar preview open hello 3000
import { createServer } from "node:http";
import { hostname } from "node:os";

const port = Number(process.env.PORT ?? 3000);
let visitCount = 0;

const server = createServer((request, response) => {
  visitCount += 1;
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end(`Hello from ${hostname()}, visit ${visitCount}, ${request.method} ${request.url}\n`);
});

server.listen(port, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${port}`);
});

// A stopped sandbox sends TERM first: what is being answered is finished.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
});
