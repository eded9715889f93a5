//! Echo with sockudo-ws: what has arrived is answered in one flush. With `deflate` after the port all messages
//! are compressed, at the fastest level.

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use mimalloc::MiMalloc;
use sockudo_ws::deflate::negotiate_server_deflate;
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::protocol::Message;
use sockudo_ws::{CompressedWebSocketStream, Config, DeflateConfig, Error, Role, WebSocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGE_LEN_MAX: usize = 64 << 20;
/// How many messages of a connection are read before they are answered.
const ARRIVED_MAX: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("usage: peer-sockudo-ws PORT [deflate]");
    let policy = (arguments.next().as_deref() == Some("deflate")).then(|| DeflateConfig {
        compression_level: 1,
        compression_threshold: 0,
        ..DeflateConfig::default()
    });
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let policy = policy.clone();
        tokio::spawn(async move { drop(serve(stream, policy).await) });
    }
}

/// The handshake by hand: its own server does not negotiate compression.
async fn serve(mut stream: TcpStream, policy: Option<DeflateConfig>) -> Result<(), Error> {
    let mut received = Vec::new();
    let (response, deflate, request_len) = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some((request, request_len)) = parse_request(&received)? {
            let deflate = policy.and_then(|policy| negotiate_server_deflate(request.extensions?, &policy));
            let answer = deflate.as_ref().map(|deflate| deflate.to_response_header());
            break (build_response(&generate_accept_key(request.key), None, answer.as_deref()), deflate, request_len);
        }
    };
    stream.write_all(&response).await?;
    received.drain(..request_len);
    let (rest, config) = (Some(received.into()), Config::builder().max_payload_length(MESSAGE_LEN_MAX).build());
    match deflate {
        Some(deflate) => {
            echo(CompressedWebSocketStream::server_with_leftover(stream, config, deflate.config, rest)).await
        }
        None => echo(WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, rest)).await,
    }
}

async fn echo<S>(mut socket: S) -> Result<(), Error>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
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
