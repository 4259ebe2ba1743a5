// The origin of the suite at 127.0.0.1:$PORT. Its own server listens on all interfaces.
import http from 'node:http'
import handleConfig from './node_modules/http-cache-tests/server/handle-config.mjs'
import handleState from './node_modules/http-cache-tests/server/handle-state.mjs'
import handleTest from './node_modules/http-cache-tests/server/handle-test.mjs'

const handlers = { config: handleConfig, state: handleState, test: handleTest }

http.createServer((request, response) => {
  const [kind, ...rest] = request.url.split('?')[0].split('/').slice(1)
  const handle = handlers[kind]
  if (handle === undefined) return response.writeHead(404).end()
  return handle(rest, request, response)
}).listen(Number(process.env.PORT), '127.0.0.1')
