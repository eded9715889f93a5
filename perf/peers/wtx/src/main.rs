//! Echo with wtx: frames are sent back from where they were received.

use mimalloc::MiMalloc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task;
use wtx::collection::Vector;
use wtx::web_socket::{OpCode, WebSocketAcceptor, WebSocketPayloadOrigin};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGE_LEN_MAX: usize = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: peer-wtx PORT");
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(task::unconstrained(async move { drop(echo(stream).await) }));
    }
}

async fn echo(stream: TcpStream) -> wtx::Result<()> {
    let mut socket = WebSocketAcceptor::default().accept(stream).await?;
    socket.set_max_payload_len(MESSAGE_LEN_MAX);
    let mut fragments = Vector::new();
    let (mut common, mut reader, mut writer) = socket.split_mut();
    loop {
        fragments.clear();
        let mut frame = reader.read_frame(&mut fragments, &mut common, WebSocketPayloadOrigin::Adaptive).await?;
        match frame.op_code() {
            OpCode::Binary | OpCode::Text => writer.write_frame(&mut common, &mut frame).await?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}
