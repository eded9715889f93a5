//! The control plane: one thread with a `tokio-uring` runtime for everything that is not
//! per-message. It owns the signals and the stop; workers are told through their mailboxes.

mod signal;

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::sync::mpsc as orders;

use crate::worker::Handle;

/// Orders that may wait; more would be the same ones again.
const ORDERS_MAX: usize = 8;

/// Who stops the server on SIGINT and SIGTERM.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Signals {
    /// The program that embeds the server has its own way.
    #[default]
    Ignored,
    /// The first signal stops the server in order, the second at once.
    Handled,
}

/// What the control thread may be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Stop,
    Abort,
    /// The workers have ended: so shall this thread.
    End,
}

/// The control thread of a server.
#[derive(Debug)]
pub struct Control {
    orders: orders::Sender<Order>,
    thread: JoinHandle<()>,
}

/// Gives orders to a control thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper(orders::Sender<Order>);

impl Stopper {
    /// Closes all connections with 1001, then ends the server.
    pub fn stop(&self) {
        // A full queue holds the same order already; a closed one means that the server has ended.
        let _ = self.0.try_send(Order::Stop);
    }

    /// Ends the server at once.
    pub fn abort(&self) {
        let _ = self.0.try_send(Order::Abort);
    }
}

impl Control {
    /// Starts the thread that controls the workers of `handle`.
    ///
    /// # Errors
    ///
    /// If the thread, its runtime or its signal handlers can't be had.
    pub fn start(handle: Handle, signals: Signals) -> io::Result<Self> {
        let (orders, inbox) = orders::channel(ORDERS_MAX);
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("ringsock-control".into()).spawn(move || {
            tokio_uring::start(async move {
                match signal::Signals::new(signals) {
                    Ok(signals) => {
                        // Nobody waits for the answer only if the start was given up.
                        let _ = ready.send(Ok(()));
                        run(&handle, inbox, signals).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { orders, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the runtime of the control thread did not start")),
        }
    }

    /// A way to stop the server from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.orders.clone())
    }

    /// Ends the thread, after the workers have ended.
    ///
    /// # Errors
    ///
    /// If the thread has panicked.
    pub fn join(self) -> thread::Result<()> {
        // Fails only if the thread has ended already.
        let _ = self.orders.blocking_send(Order::End);
        self.thread.join()
    }
}

async fn run(handle: &Handle, mut inbox: orders::Receiver<Order>, mut signals: signal::Signals) {
    let mut stopping = false;
    loop {
        let order = tokio::select! {
            order = inbox.recv() => order.unwrap_or(Order::End),
            () = signals.next() => if stopping { Order::Abort } else { Order::Stop },
        };
        let told = match order {
            Order::Stop => {
                stopping = true;
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
