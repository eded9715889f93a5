// Echo with Bun's own server. `bun bun.js PORT deflate` compresses all messages, each alone: `true` is the shared
// compressor, two to six times as fast as one of each connection. Bun has no setting for the level.
const port = Number(process.argv[2]);
const deflate = process.argv[3] === 'deflate';
Bun.serve({
  hostname: '127.0.0.1',
  port,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('upgrade please', { status: 426 });
  },
  websocket: {
    perMessageDeflate: deflate,
    maxPayloadLength: 64 << 20,
    backpressureLimit: 128 << 20,
    message(socket, message) {
      socket.send(message, deflate);
    },
  },
});
console.log(`listening on ${port}`);
