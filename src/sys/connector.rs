//! Connecting sockets: the other side of [`listener`](crate::sys::listener), for a load generator.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Begins to connect to `target` and returns the socket at once, in blocking mode: an operation
/// of io_uring then waits for the connection, and says how it ended.
///
/// `source` is the local address, where one process needs more connections than one address has
/// ports. `receive_buffer_bytes` makes the window small from the first segment on.
///
/// # Errors
///
/// What the system says at once: a limit on open files, no port left, nobody there.
pub fn connect(target: SocketAddr, source: Option<IpAddr>, receive_buffer_bytes: Option<usize>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Frames of a turn are gathered into one send already.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        choose_port_late(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    // The standard library does this in one system call.
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// Has `bind` leave the port open until `connect`, when it need only be free for that target.
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).expect("an integer is short");
    // SAFETY: the kernel reads `len` bytes, which are those of the integer that the pointer points
    // to, and the descriptor is open while `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_connection_comes_from_the_source_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let source = IpAddr::from([127, 4, 5, 6]);
        let socket = connect(listener.local_addr().unwrap(), Some(source), Some(4096)).unwrap();
        let (_peer, address) = listener.accept().unwrap();
        assert_eq!(address.ip(), source);
        drop(socket);
    }
}
