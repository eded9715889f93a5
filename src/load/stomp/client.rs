//! One connection's end of STOMP 1.2: frames in and out, without a socket.

use std::borrow::Cow;

use crate::buf::Pool;
use crate::load::fault::Fault;
use crate::load::stomp::{Excerpt, StompOptions};
use crate::load::{Mode, Plan};
use crate::proto::stomp::{Command, Decoder, Frame, Limits, Version, encoder};

/// The WebSocket subprotocol that is asked for.
pub(in crate::load) const SUBPROTOCOL: &str = "v12.stomp";
/// The only version: it is what every broker speaks.
const VERSION: Version = Version::V1_2;
/// What the frames of a handshake ask to be confirmed by, and the name of the only subscription.
const SUBSCRIBED: &str = "subscribed";
const DISCONNECTED: &str = "disconnected";
const SUBSCRIPTION: &str = "0";
/// What the text in an ERROR may have beside the longest message.
const EXTRA_BODY_LEN_MAX: usize = 64 << 10;

/// One end of a session.
#[derive(Debug)]
pub(in crate::load) struct Client {
    decoder: Decoder,
    stage: Stage,
    /// Where it sends to or receives from.
    pub(super) destination: Box<str>,
    receives: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Connecting,
    Subscribing,
    Ready,
    Disconnecting,
}

/// What the server said.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard<'f> {
    /// It took the CONNECT: a subscription is due.
    Connected,
    /// All that was asked for at the beginning is there.
    Ready,
    /// A message of the subscription, and what to acknowledge it with.
    Message { body: &'f [u8], ack: Option<Cow<'f, str>> },
    /// It has taken the DISCONNECT, and all before it.
    Disconnected,
}

impl Client {
    /// The end of a connection that only sends, or also receives.
    pub(in crate::load) fn new(plan: &Plan, destination: String, receives: bool) -> Self {
        let body_bytes_max = plan.sizes.max() as usize + EXTRA_BODY_LEN_MAX;
        let mut decoder = Decoder::new(Limits { body_bytes_max, ..Limits::default() });
        decoder.set_version(VERSION);
        Self { decoder, stage: Stage::Connecting, destination: destination.into(), receives }
    }

    /// Takes the next frame out of `input`; `None` when all of that is consumed.
    pub(super) fn receive<'f, 'b: 'f>(
        &'f mut self,
        input: &mut &'b [u8],
        pool: &mut Pool,
    ) -> Result<Option<Heard<'f>>, Fault> {
        match self.decoder.receive(input, pool) {
            Ok(Some(frame)) => hear(&frame, &mut self.stage, self.receives).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(Fault::Stomp(error)),
        }
    }

    /// Gives back what it holds of a frame that is cut.
    pub(super) fn end(&mut self, pool: &mut Pool) {
        self.decoder.end(pool);
    }

    pub(super) fn write_connect(options: &StompOptions, out: &mut Vec<u8>) {
        let mut frame = encoder::begin(out, VERSION, Command::Connect);
        frame.header("accept-version", VERSION.name()).header("host", "/").header("heart-beat", "0,0");
        for (name, value) in [("login", &options.login), ("passcode", &options.passcode)] {
            if let Some(value) = value {
                frame.header(name, value);
            }
        }
        frame.finish(b"");
    }

    pub(super) fn write_subscribe(&self, mode: Mode, options: &StompOptions, out: &mut Vec<u8>) {
        let mut frame = encoder::begin(out, VERSION, Command::Subscribe);
        frame.header("id", SUBSCRIPTION).header("destination", &self.destination);
        if mode == Mode::StompQueue {
            let prefetch = u64::from(options.prefetch);
            frame.header("ack", "client-individual");
            // Brokers have different names for it.
            frame.number("prefetch-count", prefetch).number("activemq.prefetchSize", prefetch);
        } else {
            frame.header("ack", "auto");
        }
        frame.header("receipt", SUBSCRIBED);
        frame.finish(b"");
    }

    pub(super) fn write_send(&self, body: &[u8], out: &mut Vec<u8>) {
        let mut frame = encoder::begin(out, VERSION, Command::Send);
        frame.header("destination", &self.destination);
        frame.finish(body);
    }

    pub(super) fn write_ack(id: &str, out: &mut Vec<u8>) {
        let mut frame = encoder::begin(out, VERSION, Command::Ack);
        frame.header("id", id);
        frame.finish(b"");
    }

    pub(super) fn write_disconnect(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Disconnecting;
        let mut frame = encoder::begin(out, VERSION, Command::Disconnect);
        frame.header("receipt", DISCONNECTED);
        frame.finish(b"");
    }
}

/// What a frame means at this stage.
fn hear<'f>(frame: &Frame<'f>, stage: &mut Stage, receives: bool) -> Result<Heard<'f>, Fault> {
    match (frame.command(), *stage) {
        (Command::Connected, Stage::Connecting) => {
            if frame.header("version").as_deref() != Some(VERSION.name()) {
                return Err(Fault::StompVersion);
            }
            if receives {
                *stage = Stage::Subscribing;
                Ok(Heard::Connected)
            } else {
                *stage = Stage::Ready;
                Ok(Heard::Ready)
            }
        }
        (Command::Receipt, Stage::Subscribing) if is_receipt(frame, SUBSCRIBED) => {
            *stage = Stage::Ready;
            Ok(Heard::Ready)
        }
        (Command::Receipt, Stage::Disconnecting) if is_receipt(frame, DISCONNECTED) => Ok(Heard::Disconnected),
        // A queue may have had messages before.
        (Command::Message, Stage::Subscribing | Stage::Ready | Stage::Disconnecting) if receives => {
            Ok(Heard::Message { body: frame.body(), ack: frame.header("ack") })
        }
        (Command::Error, _) => {
            let text = frame.header("message").filter(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| String::from_utf8_lossy(frame.body()));
            Err(Fault::StompError(Excerpt::of(text.trim())))
        }
        _ => Err(Fault::Unexpected),
    }
}

fn is_receipt(frame: &Frame<'_>, receipt: &str) -> bool {
    frame.header("receipt-id").as_deref() == Some(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(mode: Mode, receives: bool) -> (Client, Pool) {
        let plan = Plan::new("ws://localhost/".parse().unwrap(), mode);
        (Client::new(&plan, "/queue/a".into(), receives), Pool::default())
    }

    #[track_caller]
    fn check(client: &mut Client, pool: &mut Pool, input: &str, expect: Result<Option<Heard<'_>>, Fault>) {
        let mut input = input.as_bytes();
        assert_eq!(client.receive(&mut input, pool), expect);
    }

    const CONNECTED: &str = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0\n";

    #[test]
    fn a_consumer_connects_subscribes_and_is_given_messages_with_their_ack() {
        let (mut client, mut pool) = client(Mode::StompQueue, true);
        check(&mut client, &mut pool, CONNECTED, Ok(Some(Heard::Connected)));
        check(&mut client, &mut pool, "RECEIPT\nreceipt-id:subscribed\n\n\0", Ok(Some(Heard::Ready)));
        let message = "MESSAGE\nack:a\\cb\ndestination:/queue/a\nsubscription:0\nmessage-id:1\n\nhello\0";
        let expect = Heard::Message { body: b"hello", ack: Some("a:b".into()) };
        check(&mut client, &mut pool, message, Ok(Some(expect)));
        client.write_disconnect(&mut Vec::new());
        check(&mut client, &mut pool, "RECEIPT\nreceipt-id:disconnected\n\n\0", Ok(Some(Heard::Disconnected)));
    }

    #[test]
    fn a_publisher_is_ready_when_it_is_connected_and_is_given_nothing() {
        let (mut client, mut pool) = client(Mode::StompTopic, false);
        check(&mut client, &mut pool, CONNECTED, Ok(Some(Heard::Ready)));
        check(&mut client, &mut pool, "MESSAGE\nmessage-id:1\n\n\0", Err(Fault::Unexpected));
    }

    #[test]
    fn what_a_server_says_against_it_is_told() {
        let error = "ERROR\nmessage:Bad CONNECT\n\nAccess refused\0";
        let (mut one, mut pool) = client(Mode::StompTopic, true);
        check(&mut one, &mut pool, error, Err(Fault::StompError(Excerpt::of("Bad CONNECT"))));
        let (mut one, mut pool) = client(Mode::StompTopic, true);
        check(&mut one, &mut pool, "CONNECTED\nversion:1.1\n\n\0", Err(Fault::StompVersion));
        let (mut one, mut pool) = client(Mode::StompTopic, true);
        check(&mut one, &mut pool, "RECEIPT\nreceipt-id:subscribed\n\n\0", Err(Fault::Unexpected));
    }

    #[test]
    fn frames_are_those_that_brokers_take() {
        let options = StompOptions {
            login: Some("guest".into()),
            passcode: Some("a:b".into()),
            prefetch: 7,
            ..StompOptions::default()
        };
        let mut out = Vec::new();
        Client::write_connect(&options, &mut out);
        let expect = "CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\nlogin:guest\npasscode:a:b\n\n\0";
        assert_eq!(String::from_utf8_lossy(&out), expect);
        let (client, _) = client(Mode::StompQueue, true);
        out.clear();
        client.write_subscribe(Mode::StompQueue, &options, &mut out);
        let expect = "SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client-individual\nprefetch-count:7\n\
                      activemq.prefetchSize:7\nreceipt:subscribed\n\n\0";
        assert_eq!(String::from_utf8_lossy(&out), expect);
        out.clear();
        client.write_send(b"hello", &mut out);
        Client::write_ack("a:b", &mut out);
        let expect = "SEND\ndestination:/queue/a\ncontent-length:5\n\nhello\0ACK\nid:a\\cb\n\n\0";
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }
}
