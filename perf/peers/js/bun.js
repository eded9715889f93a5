// Echo with Bun's own server.
const port = Number(process.argv[2]);
Bun.serve({
  hostname: '127.0.0.1',
  port,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('upgrade please', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 64 << 20,
    backpressureLimit: 128 << 20,
    message(socket, message) {
      socket.send(message);
    },
  },
});
console.log(`listening on ${port}`);
