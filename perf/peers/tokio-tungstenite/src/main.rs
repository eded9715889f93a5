//! Echo with tokio-tungstenite: what its example does by `forward`, without splitting the stream.

use futures_util::{FutureExt, SinkExt, StreamExt};
use mimalloc::MiMalloc;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGE_LEN_MAX: usize = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: peer-tokio-tungstenite PORT");
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { drop(echo(stream).await) });
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_LEN)
        .max_message_size(Some(MESSAGE_LEN_MAX))
        .max_frame_size(Some(MESSAGE_LEN_MAX));
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        answer(&mut socket, message?).await?;
        // Whatever has arrived too is answered before anything is sent.
        while let Some(Some(message)) = socket.next().now_or_never() {
            answer(&mut socket, message?).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn answer(socket: &mut tokio_tungstenite::WebSocketStream<TcpStream>, message: Message) -> Result<(), Error> {
    if message.is_text() || message.is_binary() { socket.feed(message).await } else { Ok(()) }
}

/// Its documentation has 128 KiB, the default, for much traffic and 4 KiB for many connections. Of
/// 8, 32 and 128 KiB this took the least CPU with small messages, and no more than the others with
/// large ones: a buffer for each connection has to fit the caches together.
const READ_BUFFER_LEN: usize = 8 << 10;
