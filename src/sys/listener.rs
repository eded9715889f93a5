//! Listening sockets: one for each worker on the same address, so that the kernel spreads
//! connections over the workers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How many connections may wait to be accepted; the kernel caps it with `net.core.somaxconn`, whose
/// default is the same.
pub const BACKLOG: u16 = 4096;

/// How the kernel finds peers that are gone: it asks them for a sign of life, by segments without content
/// that their kernels answer (RFC 1122 section 4.2.3.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keepalive {
    /// After so long without anything from the peer it is asked.
    pub idle: Duration,
    /// So much later the connection fails with `ETIMEDOUT`; also if for both times together nothing of what was
    /// sent is confirmed.
    pub timeout: Duration,
}

/// How often a peer that does not answer is asked again until the timeout.
const PROBES: u32 = 4;

/// Makes a listening TCP socket on `address` that shares it with other sockets of this user.
///
/// Options that accepted sockets inherit are set here once: `TCP_NODELAY`, since replies are
/// already gathered into one send for each turn of the loop, and those of `keepalive`.
///
/// # Errors
///
/// What the system says, usually that the address is in use or not ours.
pub fn listen(address: SocketAddr, keepalive: Option<Keepalive>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(Keepalive { idle, timeout }) = keepalive {
        // The kernel counts in seconds here.
        let interval = (timeout / PROBES).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(PROBES);
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_user_timeout(Some(idle + timeout))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.into())?;
    Ok(socket.into())
}

/// Fails if anybody listens on `address` already.
///
/// Sockets that share an address can't tell: a second server would silently take half of the
/// connections of the first. So an exclusive bind is tried before.
///
/// # Errors
///
/// What the system says, usually that the address is in use or not ours.
pub fn check_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Connects to `address` by a socket that takes little before its owner reads.
///
/// # Errors
///
/// What the system says.
pub fn connect_with_small_buffer(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// The address that a listening socket has, with the port that the kernel chose for port 0.
///
/// # Errors
///
/// What `getsockname(2)` says.
pub fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    socket2::SockRef::from(socket).local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_address_and_strangers_are_noticed() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = listen(any, None).expect("loopback is ours");
        let address = local_address(&first).expect("bound");
        assert!(check_free(address).is_err(), "somebody listens");
        let second = listen(address, None).expect("shared");
        assert_eq!(local_address(&second).expect("bound"), address);
        drop((first, second));
        assert!(check_free(address).is_ok(), "nobody listens any more");
    }

    #[test]
    fn accepted_sockets_inherit_the_keepalive() {
        let keepalive = Keepalive { idle: Duration::from_secs(25), timeout: Duration::from_secs(20) };
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(keepalive)).expect("loopback is ours");
        let _client = TcpStream::connect(local_address(&listener).expect("bound")).expect("it listens");
        let (accepted, _) = Socket::from(listener).accept().expect("somebody has connected");
        assert!(accepted.keepalive().expect("readable"));
        assert_eq!(accepted.tcp_keepalive_time().expect("readable"), Duration::from_secs(25));
        assert_eq!(accepted.tcp_keepalive_interval().expect("readable"), Duration::from_secs(5));
        assert_eq!(accepted.tcp_user_timeout().expect("readable"), Some(Duration::from_secs(45)));
    }
}
