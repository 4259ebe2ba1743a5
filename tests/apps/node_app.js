// An ordinary Node app. The last segment of the path decides: echo, stream?n=3&pause=0.2 (seconds).
const http = require("node:http");
const crypto = require("node:crypto");

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const last = url.pathname.split("/").pop();
  if (last === "echo") return echo(request, response, url);
  if (last === "stream") return stream(response, +url.searchParams.get("n"), 1000 * url.searchParams.get("pause"));
  response.writeHead(404, { "Content-Type": "text/plain" }).end("none\n");
});

function echo(request, response, url) {
  const digest = crypto.createHash("sha256");
  let length = 0;
  request.on("data", (piece) => { length += piece.length; digest.update(piece); });
  request.on("end", () => {
    const body = JSON.stringify({
      method: request.method, path: url.pathname, query: url.search.slice(1), length, sha256: digest.digest("hex"), pid: process.pid,
    });
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }).end(body);
  });
}

function stream(response, n, pause, sent = 0) {
  response.write(`line ${sent}\n`);
  if (sent + 1 === n) return response.end();
  setTimeout(stream, pause, response, n, pause, sent + 1);
}

server.keepAliveTimeout = +(process.env.KEEP_ALIVE_MS || 5000);
server.keepAliveTimeoutBuffer = 0; // newer Nodes add a second to what they say
server.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => { server.close(() => process.exit(0)); server.closeIdleConnections(); });
