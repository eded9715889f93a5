// Echo with ws on Node.js, with the native masking (bufferutil) that its documentation recommends.
// `node ws.js PORT deflate` compresses all messages, at the fastest level.
const { WebSocketServer } = require('ws');

const port = Number(process.argv[2]);
const deflate = process.argv[3] === 'deflate';
// zlib's work goes to a pool of threads: more of them than processors only get in each other's way.
if (deflate) process.env.UV_THREADPOOL_SIZE = '1';
const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  backlog: 4096,
  perMessageDeflate: deflate && { threshold: 0, zlibDeflateOptions: { level: 1 } },
  maxPayload: 64 << 20,
});
server.on('connection', (socket) => {
  socket.on('error', () => {}); // a peer that goes away is no news here
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.on('listening', () => console.log(`listening on ${port}`));
