"""Echo with the core API of picows on uvloop."""

import asyncio
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

MESSAGE_LEN_MAX = 64 << 20


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


async def main(port):
    # One listener serves all connections: it keeps nothing of them.
    echo = Echo()
    server = await ws_create_server(
        lambda _request: echo, "127.0.0.1", port, backlog=4096, max_frame_size=MESSAGE_LEN_MAX
    )
    print(f"listening on {port}", flush=True)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
