//! The control plane: one thread with a `tokio-uring` runtime for everything that is not
//! per-message. It owns the signals and the stop; workers are told through their mailboxes.

mod signal;

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::sync::watch;

use crate::worker::Handle;

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
    /// Starts the thread that controls the workers of `handle`.
    ///
    /// # Errors
    ///
    /// If the thread, its runtime or its signal handlers can't be had.
    pub fn start(handle: Handle, signals: Signals) -> io::Result<Self> {
        let (orders, inbox) = watch::channel(Order::Run);
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

async fn run(handle: &Handle, mut inbox: watch::Receiver<Order>, mut signals: signal::Signals) {
    let mut given = Order::Run;
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
