//! STOMP clients over both transports, which say what they are told to and read what comes, in bounded time.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::Message;
use tungstenite::{Error, WebSocket};

/// How long a frame may take to come. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many reads a frame may take.
const READS_MAX: usize = 100_000;

/// How a client talks to the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Tcp,
    WebSocket,
}

/// The addresses of a server: for WebSocket, and for STOMP over TCP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doors {
    pub(crate) web: SocketAddr,
    pub(crate) tcp: SocketAddr,
}

/// A client.
pub(crate) struct Client {
    wire: Wire,
    received: Vec<u8>,
    /// The code of the Close that came, or 1000 for the end of a stream.
    pub(crate) closed: Option<u16>,
}

enum Wire {
    Tcp(TcpStream),
    WebSocket(Box<WebSocket<TcpStream>>),
}

impl Client {
    /// Connects, without a word of STOMP.
    pub(crate) fn open(doors: Doors, over: Over) -> Self {
        let address = if over == Over::Tcp { doors.tcp } else { doors.web };
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time");
        stream.set_nodelay(true).expect("an option");
        let wire = match over {
            Over::Tcp => Wire::Tcp(stream),
            Over::WebSocket => {
                let mut request = format!("ws://{address}/stomp").into_client_request().expect("a URL");
                let offer = "v10.stomp, v11.stomp, v12.stomp".parse().expect("a value");
                request.headers_mut().insert("Sec-WebSocket-Protocol", offer);
                let (socket, response) = tungstenite::client(request, stream).expect("an upgrade");
                assert_eq!(response.headers()["sec-websocket-protocol"], "v12.stomp");
                Wire::WebSocket(Box::new(socket))
            }
        };
        Self { wire, received: Vec::new(), closed: None }
    }

    /// Connects and opens a session of this version.
    pub(crate) fn connect(doors: Doors, over: Over, version: &str) -> Self {
        let mut client = Self::open(doors, over);
        client.say(&format!("CONNECT\naccept-version:{version}\nhost:/\n\n\0"));
        let connected = client.frame();
        assert!(connected.starts_with(&format!("CONNECTED\nversion:{version}\n")), "{connected}");
        client
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.send(text.as_bytes());
    }

    /// Sends bytes, all in one message of a WebSocket.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A server that has had enough of us may be gone already: what it said before is what counts.
        match &mut self.wire {
            Wire::Tcp(stream) => drop(stream.write_all(bytes)),
            Wire::WebSocket(socket) => drop(socket.send(Message::binary(bytes.to_vec()))),
        }
    }

    /// Subscribes and waits until that is active.
    pub(crate) fn subscribe(&mut self, destination: &str, more: &str) {
        self.say(&format!("SUBSCRIBE\nid:s\ndestination:{destination}\n{more}receipt:subscribed\n\n\0"));
        assert_eq!(self.frame(), "RECEIPT\nreceipt-id:subscribed\n\n");
    }

    /// The next frame, without its NUL; an empty text at the end of the connection.
    pub(crate) fn frame(&mut self) -> String {
        for _ in 0..READS_MAX {
            while self.received.first() == Some(&b'\n') {
                self.received.remove(0);
            }
            if let Some(len) = frame_len(&self.received) {
                let frame: Vec<u8> = self.received.drain(..len).collect();
                return String::from_utf8(frame[..len - 1].to_vec()).expect("text");
            }
            if self.closed.is_some() {
                assert!(self.received.is_empty(), "cut within a frame: {:?}", String::from_utf8_lossy(&self.received));
                return String::new();
            }
            self.read();
        }
        panic!("no frame in all that came: {:?}", String::from_utf8_lossy(&self.received));
    }

    fn read(&mut self) {
        match &mut self.wire {
            Wire::Tcp(stream) => {
                let mut buffer = vec![0; 64 << 10];
                match stream.read(&mut buffer) {
                    Ok(0) => self.closed = Some(1000),
                    Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = Some(1006),
                    Err(error) => panic!("{error}"),
                }
            }
            Wire::WebSocket(socket) => match socket.read() {
                Ok(Message::Close(close)) => self.closed = Some(close.map_or(1005, |close| close.code.into())),
                Ok(message) if message.is_text() || message.is_binary() => {
                    self.received.extend_from_slice(&message.into_data());
                }
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.closed.get_or_insert(1006);
                }
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// Expects an ERROR with this message, and then the end.
    #[track_caller]
    pub(crate) fn expect_error(&mut self, message: &str) {
        let error = self.frame();
        assert!(error.starts_with("ERROR\n"), "{error:?}, not an ERROR {message:?}");
        assert!(header(&error, "message").is_some_and(|found| found.contains(message)), "{error:?}, not {message:?}");
        assert_eq!(self.frame(), "", "nothing follows an ERROR");
        let code = self.closed.expect("it is closed");
        assert!(code == 1002 || matches!(self.wire, Wire::Tcp(_)), "closed with {code}");
        assert!(code != 1006, "the end is orderly");
    }
}

/// The value of a frame's first header of this name.
pub(crate) fn header<'f>(frame: &'f str, name: &str) -> Option<&'f str> {
    let (head, _) = frame.split_once("\n\n")?;
    head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

pub(crate) fn body(frame: &str) -> &str {
    frame.split_once("\n\n").map_or("", |(_, body)| body)
}

/// How long the first frame is with its NUL, if it is whole.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let head_len = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let head = std::str::from_utf8(&bytes[..head_len]).expect("heads are text");
    let content_length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let len = match content_length {
        Some(digits) => head_len + digits.parse::<usize>().expect("a length"),
        None => head_len + bytes[head_len..].iter().position(|&byte| byte == 0)?,
    };
    (bytes.len() > len).then_some(len + 1)
}
