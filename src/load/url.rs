//! Where to connect: a `ws://` URL, or for STOMP without WebSocket a `tcp://` URL.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The port of a `ws` URL that names none (RFC 6455 section 3).
const PORT: u16 = 80;
/// The usual port of STOMP.
const STOMP_PORT: u16 = 61613;

/// What goes over the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// What WebSocket's messages would hold: STOMP.
    Tcp,
}

impl Transport {
    const fn scheme(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::Tcp => "tcp",
        }
    }
}

/// A `ws://host:port/path` or `tcp://host:port` URL.
///
/// ```
/// use ringsock::load::Url;
///
/// let url: Url = "ws://localhost:9001/echo?room=1".parse()?;
/// assert_eq!((url.authority(), url.path()), ("localhost:9001", "/echo?room=1"));
/// assert!("wss://localhost/".parse::<Url>().is_err());
/// # Ok::<(), ringsock::load::UrlError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    transport: Transport,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// Why a URL can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// It is a `wss` URL.
    #[error("wss is not supported -> measure without TLS, by a ws:// URL")]
    Tls,
    /// It has another scheme, or none.
    #[error(
        "the URL does not begin with ws:// -> write it as ws://host:port/path (tcp://host:port for STOMP over TCP)"
    )]
    Scheme,
    /// The host is missing or contains what no host does.
    #[error("'{0}' is not a host -> write the URL as ws://host:port/path, an IPv6 address in brackets")]
    Host(String),
    /// The port is not a number from 1 to 65,535.
    #[error("'{0}' is not a port -> write a number from 1 to 65535")]
    Port(String),
    /// A `tcp` URL has a path.
    #[error("'{0}' is not of use without WebSocket -> write the URL as tcp://host:port")]
    PathOfTcp(String),
    /// The path contains a space, a fragment or a control character.
    #[error("'{0}' is not a path -> encode what is not printable ASCII as %xx, and leave out '#'")]
    Path(String),
    /// The name is unknown.
    #[error("the host '{host}' can't be resolved: {cause} -> check the name, or write an address")]
    Unknown {
        /// The host.
        host: String,
        /// What the system said.
        cause: String,
    },
}

impl Url {
    /// The host and port as they stand in the URL: the value of the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What goes over the connection.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The path with its query, beginning with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The addresses of the host, those of IPv4 first: a server on `localhost` often has only that.
    ///
    /// # Errors
    ///
    /// If the name is unknown.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, UrlError> {
        let unknown = |cause: String| UrlError::Unknown { host: self.host.clone(), cause };
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses: Vec<SocketAddr> = found.map_err(|error| unknown(error.to_string()))?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        if addresses.is_empty() { Err(unknown("it has no address".into())) } else { Ok(addresses) }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (transport, rest) = match text.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("wss") => return Err(UrlError::Tls),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => (Transport::WebSocket, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => (Transport::Tcp, rest),
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(UrlError::Path(path));
        }
        if transport == Transport::Tcp && path != "/" {
            return Err(UrlError::PathOfTcp(path));
        }
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(if transport == Transport::Tcp { STOMP_PORT } else { PORT });
        Ok(Self { transport, authority: authority.into(), host: host.into(), port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.transport == Transport::Tcp { "" } else { &self.path };
        write!(f, "{}://{}{path}", self.transport.scheme(), self.authority)
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let no_host = || UrlError::Host(authority.into());
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(no_host)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err(no_host());
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err(no_host()),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|&port| port != 0);
            Some(port.ok_or_else(|| UrlError::Port(digits.into()))?)
        }
        Some(digits) => return Err(UrlError::Port(digits.into())),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(&str, u16, &str), UrlError>) {
        let url = text.parse::<Url>();
        assert_eq!(url.as_ref().map(|url| (&*url.host, url.port, &*url.path)).map_err(Clone::clone), expect, "{text}");
    }

    #[test]
    fn a_url_has_a_host_perhaps_a_port_and_a_path() {
        check("ws://localhost:9001/", Ok(("localhost", 9001, "/")));
        check("ws://localhost", Ok(("localhost", 80, "/")));
        check("WS://10.0.0.1:1/a/b?c=d", Ok(("10.0.0.1", 1, "/a/b?c=d")));
        check("ws://a.example?x=1", Ok(("a.example", 80, "/?x=1")));
        check("ws://[::1]:9001/x", Ok(("::1", 9001, "/x")));
        check("ws://[::1]", Ok(("::1", 80, "/")));
    }

    #[test]
    fn a_url_of_tcp_has_a_host_and_perhaps_a_port() {
        check("tcp://127.0.0.1:5/", Ok(("127.0.0.1", 5, "/")));
        check("tcp://localhost", Ok(("localhost", 61_613, "/")));
        check("tcp://localhost/ws", Err(UrlError::PathOfTcp("/ws".into())));
        for text in ["tcp://localhost:5", "ws://localhost:5/a"] {
            assert_eq!(text.parse::<Url>().map(|url| url.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn what_is_no_such_url_is_named() {
        check("wss://localhost/", Err(UrlError::Tls));
        check("http://localhost/", Err(UrlError::Scheme));
        check("localhost:9001", Err(UrlError::Scheme));
        check("ws://", Err(UrlError::Host(String::new())));
        check("ws://:80/", Err(UrlError::Host(":80".into())));
        check("ws://user@host/", Err(UrlError::Host("user@host".into())));
        check("ws://[::1/", Err(UrlError::Host("[::1".into())));
        check("ws://[::1]80/", Err(UrlError::Host("[::1]80".into())));
        check("ws://a:/", Err(UrlError::Port(String::new())));
        check("ws://a:0/", Err(UrlError::Port("0".into())));
        check("ws://a:65536/", Err(UrlError::Port("65536".into())));
        check("ws://a:+80/", Err(UrlError::Port("+80".into())));
        check("ws://a/b c", Err(UrlError::Path("/b c".into())));
        check("ws://a/b#c", Err(UrlError::Path("/b#c".into())));
        check("ws://a/\r\nX: y", Err(UrlError::Path("/\r\nX: y".into())));
    }

    #[test]
    fn an_address_resolves_to_itself() {
        let url: Url = "ws://[::1]:9001/".parse().unwrap();
        assert_eq!(url.resolve(), Ok(vec!["[::1]:9001".parse().unwrap()]));
        let url: Url = "ws://name.invalid/".parse().unwrap();
        assert!(matches!(url.resolve(), Err(UrlError::Unknown { host, .. }) if host == "name.invalid"));
    }
}
