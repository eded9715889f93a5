//! The control plane: one thread with a `tokio-uring` runtime for everything that is not
//! per-message. It owns the signals and the stop; workers are told through their mailboxes.

mod broker;
mod memory;
mod signal;

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, mem, thread};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::worker::{Handle, Pressure};

pub use broker::{Broker, BrokerError, Messages};
pub(crate) use memory::accepts_up_to;

use memory::Memory;

/// Who stops the server on SIGINT and SIGTERM.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Signals {
    /// The program that embeds the server has its own way.
    #[default]
    Ignored,
    /// The first signal stops the server in order, the second at once.
    Handled,
}

/// What the control thread may be told. A later one includes those before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Order {
    Run,
    Stop,
    Abort,
    /// The workers have ended: so shall this thread.
    End,
}

/// Stops the workers if the control thread panics.
struct StopsAll(Handle);

impl Drop for StopsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            // A worker that is gone already needs no word, and nobody is left to be told of it.
            let _ = self.0.stop();
        }
    }
}

/// The control thread of a server.
#[derive(Debug)]
pub struct Control {
    stopper: Stopper,
    thread: JoinHandle<()>,
}

/// Gives orders to a control thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Order>);

impl Stopper {
    /// Closes all connections with 1001, then ends the server.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Ends the server at once.
    pub fn abort(&self) {
        self.order(Order::Abort);
    }

    fn order(&self, order: Order) {
        self.0.send_modify(|given| *given = order.max(*given));
    }
}

impl Control {
    /// Starts the thread that controls the workers of `handle`, and watches that the server takes no more than
    /// `memory_max` bytes, if it is given.
    ///
    /// # Errors
    ///
    /// If the thread, its runtime or its signal handlers can't be had.
    pub fn start(handle: Handle, signals: Signals, memory_max: Option<u64>) -> io::Result<Self> {
        let (orders, inbox) = watch::channel(Order::Run);
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("ringsock-control".into()).spawn(move || {
            // Without this thread nobody hears of signals: if it panics, the server stops.
            let _stops_all = StopsAll(handle.clone());
            tokio_uring::start(async move {
                match signal::Signals::new(signals) {
                    Ok(signals) => {
                        // Nobody waits for the answer only if the start was given up.
                        let _ = ready.send(Ok(()));
                        run(&handle, inbox, signals, memory_max.map(Memory::new)).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { stopper: Stopper(orders), thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the runtime of the control thread did not start")),
        }
    }

    /// A way to stop the server from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Ends the thread, after the workers have ended.
    ///
    /// # Errors
    ///
    /// If the thread has panicked.
    pub fn join(self) -> thread::Result<()> {
        self.stopper.order(Order::End);
        self.thread.join()
    }
}

/// How often memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(100);

async fn run(
    handle: &Handle,
    mut inbox: watch::Receiver<Order>,
    mut signals: signal::Signals,
    mut memory: Option<Memory>,
) {
    let mut given = Order::Run;
    let mut looks = tokio::time::interval(MEMORY_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pressure = Pressure::Calm;
    loop {
        let order = tokio::select! {
            changed = inbox.changed() => match changed {
                Ok(()) => *inbox.borrow_and_update(),
                // Nobody is left to give orders, but the workers go on, and signals may still come.
                Err(_) if given < Order::End => {
                    signals.next().await;
                    if given == Order::Run { Order::Stop } else { Order::Abort }
                }
                Err(_) => Order::End,
            },
            _ = looks.tick(), if memory.is_some() => {
                let Some(memory) = &mut memory else { continue };
                let before = mem::replace(&mut pressure, memory.look(handle.connections(), handle.workers()));
                // Each word has the workers part with some more.
                if (pressure != before || matches!(pressure, Pressure::Short { .. }))
                    && let Err(error) = handle.press(pressure)
                {
                    tracing::error!("a worker could not be told how short memory is: {error}");
                    // The next look tries again.
                    pressure = before;
                }
                continue;
            }
            () = signals.next() => if given == Order::Run { Order::Stop } else { Order::Abort },
        };
        given = order.max(given);
        let told = match given {
            Order::Run => Ok(()),
            Order::Stop => {
                tracing::info!("stopping: connections are closed with 1001; once more ends at once");
                handle.stop()
            }
            Order::Abort => handle.abort(),
            Order::End => return,
        };
        if let Err(error) = told {
            tracing::error!("an order to stop did not arrive: {error}");
        }
    }
}
