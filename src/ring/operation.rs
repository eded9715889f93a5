//! Typed operations and the submission queue entries that they become.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};

use crate::ring::SendMode;
use crate::ring::buffer_ring::GROUP;
use crate::ring::token::{Kind, Token};
use crate::slab::Key;

/// Where the fields `ioprio` and `optlen` begin in an `io_uring_sqe`, in bytes.
const IOPRIO: usize = 2;
const OPTLEN: usize = 44;
/// Has an accept wait for a connection before it makes a socket for it, and not find out first that there is
/// none (Linux 6.10).
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

/// An operation without memory of its own, or with pointers that the driver keeps valid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Accept { listener: u8, descriptor: RawFd, poll_first: bool },
    CancelAccepts { listener: u8 },
    ReceiveMultishot { key: Key, bytes_max: u32 },
    ReceiveOnce { key: Key },
    ReceiveNow { key: Key },
    Poll { key: Key },
    ReceiveInto { key: Key, bytes: *mut u8, len: u32 },
    SetLowWater { key: Key, mark: &'static libc::c_int },
    CancelReceive { key: Key },
    CancelFill { key: Key },
    CancelPoll { key: Key },
    Send { key: Key, bytes: *const u8, len: u32, mode: SendMode },
    SendMessage { key: Key, message: *const libc::msghdr, mode: SendMode },
    CancelSend { key: Key },
    Shutdown { key: Key },
    Close { key: Key },
    Wake { ring: RawFd },
}

impl Operation {
    pub(super) fn entry(self) -> Entry {
        match self {
            Self::Accept { listener, descriptor, poll_first } => {
                let accept = opcode::Accept::new(Fd(descriptor), ptr::null_mut(), ptr::null_mut());
                let entry = accept.file_index(Some(DestinationSlot::auto_target())).build();
                let flags = if poll_first { ACCEPT_POLL_FIRST } else { 0 };
                with_field(entry, IOPRIO, flags.to_ne_bytes()).user_data(Token::of_listener(listener).pack())
            }
            Self::CancelAccepts { listener } => {
                let all = CancelBuilder::user_data(Token::of_listener(listener).pack()).all();
                quiet(opcode::AsyncCancel2::new(all).build())
            }
            Self::ReceiveMultishot { key, bytes_max } => {
                let entry = opcode::RecvMulti::new(Fixed(key.slot), GROUP).build();
                // How many bytes the series takes in all (Linux 6.17). Zero, which older kernels insist on, is no
                // limit.
                with_field(entry, OPTLEN, bytes_max.to_ne_bytes()).user_data(Token::new(Kind::Receive, key).pack())
            }
            Self::ReceiveOnce { key } => receive_once(key, 0),
            Self::ReceiveNow { key } => receive_once(key, libc::MSG_DONTWAIT),
            // FIN and errors end it, too.
            Self::Poll { key } => {
                let events = libc::POLLIN.cast_unsigned().into();
                opcode::PollAdd::new(Fixed(key.slot), events).build().user_data(Token::new(Kind::Poll, key).pack())
            }
            Self::ReceiveInto { key, bytes, len } => {
                opcode::Recv::new(Fixed(key.slot), bytes, len).build().user_data(Token::new(Kind::Fill, key).pack())
            }
            Self::SetLowWater { key, mark } => {
                let (level, name) = (libc::SOL_SOCKET.cast_unsigned(), libc::SO_RCVLOWAT.cast_unsigned());
                let (value, len) = (ptr::from_ref(mark).cast(), libc::c_int::BITS / 8);
                quiet(opcode::SetSockOpt::new(Fixed(key.slot), level, name, value, len).build())
            }
            Self::CancelReceive { key } => quiet(cancel_token(Token::new(Kind::Receive, key))),
            Self::CancelFill { key } => quiet(cancel_token(Token::new(Kind::Fill, key))),
            Self::CancelPoll { key } => quiet(cancel_token(Token::new(Kind::Poll, key))),
            Self::Send { key, bytes, len, mode } => {
                let entry = opcode::Send::new(Fixed(key.slot), bytes, len).flags(message_flags(mode)).build();
                of_send(entry, key, mode)
            }
            Self::SendMessage { key, message, mode } => {
                let flags = message_flags(mode).cast_unsigned();
                let entry = opcode::SendMsg::new(Fixed(key.slot), message).flags(flags).build();
                of_send(entry, key, mode)
            }
            Self::CancelSend { key } => quiet(cancel_token(Token::new(Kind::SendWait, key))),
            // Its end is awaited, see the driver.
            Self::Shutdown { key } => opcode::Shutdown::new(Fixed(key.slot), libc::SHUT_WR)
                .build()
                .user_data(Token::new(Kind::Shutdown, key).pack()),
            Self::Close { key } => {
                opcode::Close::new(Fixed(key.slot)).build().user_data(Token::new(Kind::Close, key).pack())
            }
            Self::Wake { ring } => {
                let token = Token::of_ring(Kind::Wake).pack();
                quiet(opcode::MsgRingData::new(Fd(ring), 0, token, None).build())
            }
        }
    }
}

/// Receives what one buffer holds; a length of zero stands for that.
fn receive_once(key: Key, message_flags: i32) -> Entry {
    let receive = opcode::Recv::new(Fixed(key.slot), ptr::null_mut(), 0).buf_group(GROUP).flags(message_flags);
    receive.build().flags(Flags::BUFFER_SELECT).user_data(Token::new(Kind::Receive, key).pack())
}

/// Sets a field for which the crate has no method: the bytes from `at` on.
fn with_field<const LEN: usize>(mut entry: Entry, at: usize, value: [u8; LEN]) -> Entry {
    const { assert!(size_of::<Entry>() == 64) };
    assert!(at + LEN <= size_of::<Entry>(), "a field is within its entry");
    let bytes = ptr::from_mut(&mut entry).cast::<u8>();
    // SAFETY: an entry is the 64 bytes of the kernel's `io_uring_sqe`, and `at` is one of them: both have just
    // been asserted.
    let field = unsafe { bytes.add(at) };
    // SAFETY:
    // - valid: the `LEN` bytes from `field` on are within `entry`, as asserted, which is ours alone;
    // - aligned: bytes may be anywhere;
    // - every byte is a value of the plain integers that an entry consists of.
    unsafe { field.cast::<[u8; LEN]>().write(value) };
    entry
}

fn cancel_token(token: Token) -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::user_data(token.pack())).build()
}

/// An operation whose success nobody waits for.
fn quiet(entry: Entry) -> Entry {
    entry.flags(Flags::SKIP_SUCCESS).user_data(Token::of_ring(Kind::Quiet).pack())
}

fn of_send(entry: Entry, key: Key, mode: SendMode) -> Entry {
    match mode {
        // Without a completion the send was done, whole, when the submitting call returned: the
        // kernel tries at once and may not put a send off that must not wait.
        SendMode::Now => entry.flags(Flags::SKIP_SUCCESS).user_data(Token::new(Kind::SendNow, key).pack()),
        SendMode::Wait => entry.user_data(Token::new(Kind::SendWait, key).pack()),
    }
}

fn message_flags(mode: SendMode) -> i32 {
    match mode {
        // `WAITALL` makes a short send a failure with its count, so that it is reported although
        // successes are not.
        SendMode::Now => libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        SendMode::Wait => libc::MSG_NOSIGNAL,
    }
}
