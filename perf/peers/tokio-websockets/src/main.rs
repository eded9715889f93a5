//! Echo with tokio-websockets: its example, but that what has arrived is answered in one flush.

use futures_util::{FutureExt, SinkExt, StreamExt};
use mimalloc::MiMalloc;
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Config, Error, Limits, ServerBuilder};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGE_LEN_MAX: usize = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: peer-tokio-websockets PORT");
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { drop(echo(stream).await) });
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let limits = Limits::default().max_payload_len(Some(MESSAGE_LEN_MAX));
    // One frame for a message, as the other servers answer.
    let config = Config::default().frame_size(MESSAGE_LEN_MAX);
    let (_request, mut socket) = ServerBuilder::new().limits(limits).config(config).accept(stream).await?;
    // It flushes whatever is queued before it reads on: so all that has arrived is read first.
    let mut arrived = Vec::new();
    while let Some(message) = socket.next().await {
        arrived.push(message?);
        while arrived.len() < ARRIVED_MAX
            && let Some(Some(message)) = socket.next().now_or_never()
        {
            arrived.push(message?);
        }
        for message in arrived.drain(..).filter(|message| message.is_text() || message.is_binary()) {
            socket.feed(message).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

/// How many messages of a connection are read before they are answered.
const ARRIVED_MAX: usize = 64;
