//! Echo with yawc: hyper upgrades, and what has arrived is answered in one flush. With `deflate` after the
//! port all messages are compressed, at the fastest level.

use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use yawc::{CompressionLevel, OpCode, Options, UpgradeFut, WebSocket};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGE_LEN_MAX: usize = 64 << 20;
/// How many messages of a connection are read before they are answered.
const ARRIVED_MAX: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("usage: peer-yawc PORT [deflate]");
    let mut options = Options::default().with_max_payload_read(MESSAGE_LEN_MAX + 1).with_utf8();
    if arguments.next().as_deref() == Some("deflate") {
        // Without a size it would answer clients that let it choose with the smallest window.
        options = options.with_compression_level(CompressionLevel::fast()).with_client_max_window_bits(15);
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let options = options.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, options.clone()));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            drop(served); // a peer that goes away is no news here
        });
    }
}

async fn serve(mut request: Request<Incoming>, options: Options) -> yawc::Result<Response<Empty<Bytes>>> {
    let (response, upgraded) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(async move { drop(echo(upgraded).await) });
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> yawc::Result<()> {
    let mut socket = upgraded.await?;
    let mut arrived = Vec::new();
    while let Some(frame) = socket.next().await {
        arrived.push(frame);
        while arrived.len() < ARRIVED_MAX
            && let Some(Some(frame)) = socket.next().now_or_never()
        {
            arrived.push(frame);
        }
        for frame in arrived.drain(..).filter(|frame| matches!(frame.opcode(), OpCode::Text | OpCode::Binary)) {
            socket.feed(frame).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
