//! The load generator: connections in the role of the client on the same ring as the server's.
//!
//! ```text
//! run: resolve, probe ─► a Client on each thread: opens its connections ─► rendezvous
//!        │                  begins ─► warm-up ─► window ─► drains ─► closes
//!        └─ reads what the server consumes at both ends of the window, gathers samples ─► Report
//! ```
//!
//! Its own cost is kept far below a server's by the server's own means: one system call a turn, one
//! send for each connection and turn, replies looked at where they arrived. What was sent is not
//! kept but for its place in a shared random block, and no message allocates. What a latency means
//! stands in `client.rs`, what a fixed rate means in `schedule.rs`.

mod active;
mod board;
mod broadcast;
mod client;
mod clock;
mod connection;
mod connector;
mod context;
mod deflate;
mod fault;
mod message;
mod part;
mod payload;
mod plan;
mod plot;
mod progress;
mod random;
mod recorder;
mod rendezvous;
mod reply;
mod report;
mod run;
mod schedule;
mod series;
mod share;
mod sizes;
mod stage;
mod stomp;
mod table;
mod url;

pub use context::Totals;
pub use fault::{Fault, Faults};
pub use payload::Mismatch;
pub use plan::{Deflate, Mode, Plan, PlanError, Progress, Validation};
pub use plot::{PlotError, draw};
pub use report::{Consumption, Report};
pub use run::{Error, run};
pub use series::{Latency, Point};
pub use sizes::{Sizes, SizesError};
pub use stomp::{Excerpt, StompOptions};
pub use url::{Transport, Url, UrlError};
