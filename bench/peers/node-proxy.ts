/** `node node-proxy.ts PORT APP_PORT`: the reverse proxy that anybody writes first. */
import http from "node:http";

const [port, appPort] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true });

http
  .createServer((request, response) => {
    const { method, url, headers } = request;
    const upstream = http.request(
      { host: "127.0.0.1", port: appPort, agent, method, path: url, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    upstream.on("error", () => response.destroy());
    request.pipe(upstream);
  })
  .listen(port, "127.0.0.1");
