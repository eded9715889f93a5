//! A WebSocket server for Linux on io_uring: a ready binary and an embeddable library.
//!
//! # Use
//!
//! Implement [`Handler`] and start a [`Server`]; its documentation has an echo server and a chat
//! that run as they stand. The program `ringsock` is this library with the [`handler::Site`]: an echo, and the
//! STOMP broker of [`handler::stomp`].
//!
//! # How a byte travels
//!
//! ```text
//!  socket ─► ring: multishot receive into a shared ring of buffers,
//!              │     or, of a long frame, straight into its message
//!              └─► worker: Connection ─► proto::http, once      the upgrade request
//!                                    └─► proto::ws::Session     unmasked in place, validated
//!                                          └─► handler          sees a view of the buffer
//!                                                └─► Effects    encode into the connection's block
//!  socket ◄─ ring: one send a connection and turn ◄─ settle ◄─ SendQueue ◄─┘
//! ```
//!
//! What comes by a listener for streams is the handler's as it is, from the first byte on.
//!
//! Data goes one way. The ring never sees a protocol, a handler never sees a socket, and nothing
//! calls back upwards: what a layer has to say is a value that it returns.
//!
//! # Two planes
//!
//! The **data plane** is one [`worker::Worker`] on each core: a pinned thread with an io_uring,
//! connections, buffers, deadlines and a handler of its own. It blocks only in the one system call
//! of a turn, takes no lock and, in steady state, allocates nothing for a message (the broker keeps one for all that
//! get it). The **control
//! plane** ([`control`]) is one thread with a `tokio-uring` runtime for signals and the stop; it
//! talks to workers through their [`worker::Mailbox`]es, as other threads do through a
//! [`worker::Handle`].
//!
//! # Layers
//!
//! A module imports only from the rows below it; `tests/tidy.rs` enforces that, and that the
//! modules marked sans-IO name no socket, thread, file or clock.
//!
//! | module | what it owns |
//! |---|---|
//! | [`cli`] | the command line: `serve`, `bench`, `doctor` |
//! | [`server`] | listening, starting and pinning workers, the stop: the embeddable API |
//! | [`config`] | the options of a server |
//! | [`control`] | the control thread: signals, orders to stop; the broker for other threads |
//! | [`load`] | the load generator: clients on the same ring, for this server and others |
//! | [`worker`] | one core's loop; connections, deadlines, mailbox, counters |
//! | [`handler`] | sans-IO: the application's trait, its effects, the echo, the STOMP broker |
//! | [`broker`] | sans-IO: destinations, topics and their subscriptions, queues with acknowledgements, transactions |
//! | [`proto`] | sans-IO: HTTP upgrade and WebSocket, for both roles; STOMP, for servers |
//! | [`ring`], [`sys`] | io_uring as typed operations and completions; the other system calls |
//! | [`buf`], [`simd`], [`slab`], [`timer`] | blocks and send queues; masking and UTF-8; slots; the wheel |
//!
//! # What it relies on
//!
//! - **Slots.** The index of a connection's direct descriptor is its slot in the
//!   [`slab::Table`]; a completion of an earlier life of the slot is known by its generation.
//! - **Idle connections own nothing.** What a connection needs while it is busy hangs off one
//!   pointer and goes back to the worker when it is quiet.
//! - **Settling.** Completions change state; at the end of a turn each connection that changed is
//!   looked at once, and what its state calls for is asked of the kernel, see [`worker`].
//! - **Simulation.** The worker is generic over the [`ring::Driver`]. The tests run the same code
//!   over a simulated kernel and network with a virtual clock and a seed.
//! - **Bounds.** Queues, messages, heads, fragments, connections and waits have limits, see
//!   [`worker::Options`].
//!
//! # Kernel
//!
//! Linux 6.1 or newer; incremental receive buffers are used from 6.12 on. Whatever is used is
//! tried at start ([`ring::probe`]); `ringsock doctor` shows the result.

pub mod broker;
pub mod buf;
pub mod cli;
pub mod config;
pub mod control;
pub mod handler;
pub mod load;
pub mod proto;
pub mod ring;
pub mod server;
pub mod simd;
pub mod slab;
pub mod sys;
pub mod timer;
pub mod worker;

pub use config::Options;
pub use control::{Signals, Stopper};
pub use handler::{Accept, CloseCause, ConnectionId, Effects, Handler, Page, Parcel, Transport};
pub use proto::http::{Refusal, Request, Upgrade};
pub use proto::ws::deflate::{Level, Policy, WindowBits};
pub use proto::ws::{CloseCode, Message, MessageKind, encoder};
pub use server::{Error, Server};
pub use worker::{Handle, PostError};
