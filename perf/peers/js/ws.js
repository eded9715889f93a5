// Echo with ws on Node.js, with the native masking (bufferutil) that its documentation recommends.
const { WebSocketServer } = require('ws');

const port = Number(process.argv[2]);
const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  backlog: 4096,
  perMessageDeflate: false,
  maxPayload: 64 << 20,
});
server.on('connection', (socket) => {
  socket.on('error', () => {}); // a peer that goes away is no news here
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.on('listening', () => console.log(`listening on ${port}`));
