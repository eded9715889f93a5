//! Listening sockets: one for each worker on the same address, so that the kernel spreads
//! connections over the workers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted; the kernel caps it with `net.core.somaxconn`, whose
/// default is the same.
pub const BACKLOG: u16 = 4096;

/// Makes a listening TCP socket on `address` that shares it with other sockets of this user.
///
/// Options that accepted sockets inherit are set here once: `TCP_NODELAY`, since replies are
/// already gathered into one send for each turn of the loop.
///
/// # Errors
///
/// What the system says, usually that the address is in use or not ours.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
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
        let first = listen(any).expect("loopback is ours");
        let address = local_address(&first).expect("bound");
        assert!(check_free(address).is_err(), "somebody listens");
        let second = listen(address).expect("shared");
        assert_eq!(local_address(&second).expect("bound"), address);
        drop((first, second));
        assert!(check_free(address).is_ok(), "nobody listens any more");
    }
}
