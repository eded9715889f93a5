//! What a connection is there for.

use crate::load::connector::Pace;
use crate::load::share::{Share, is_chosen};
use crate::load::{Mode, Plan};
use crate::ring::ReceiveMode;

/// What a connection is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Sends and expects each message back.
    Echo,
    /// Opens and closes.
    Storm,
    /// Holds, until it is asked for an echo.
    Idle,
    /// Floods the server and reads slowly.
    SlowReader,
    /// Sends to everybody, itself included; with STOMP to a topic or queue.
    Publisher,
    /// Receives what publishers send.
    Subscriber,
}

impl Part {
    /// The part of the connection in a slot of a thread.
    pub(super) fn of(plan: &Plan, share: Share, slot: u32) -> Self {
        let number = share.number(slot);
        match plan.mode {
            Mode::PingPong | Mode::Pipeline | Mode::Rate => Self::Echo,
            Mode::Connect => Self::Storm,
            Mode::Idle if is_chosen(slot, share.of(plan.active_count()), share.of(plan.connections)) => Self::Echo,
            Mode::Idle => Self::Idle,
            Mode::Slow if number < plan.slow_readers => Self::SlowReader,
            Mode::Slow => Self::Echo,
            Mode::Broadcast | Mode::StompTopic | Mode::StompQueue if number < plan.publishers => Self::Publisher,
            Mode::Broadcast | Mode::StompTopic | Mode::StompQueue => Self::Subscriber,
        }
    }

    pub(super) const fn pace(self) -> Pace {
        match self {
            Self::SlowReader => Pace::Slow,
            Self::Echo | Self::Storm | Self::Idle | Self::Publisher | Self::Subscriber => Pace::Full,
        }
    }

    /// A slow reader takes what one receive gives and then pauses.
    pub(super) const fn receive_mode(self) -> ReceiveMode {
        match self.pace() {
            Pace::Slow => ReceiveMode::Bounded,
            Pace::Full => ReceiveMode::Series,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_connections_are_spread_over_the_threads_and_their_slots() {
        let usual = Plan::new("ws://localhost/".parse().unwrap(), Mode::Idle);
        let plan = Plan { connections: 1_000, active: Some(10), ..usual };
        let active = |index| {
            let share = Share { index, threads: 4 };
            let slots = 0..share.of(plan.connections);
            slots.filter(|&slot| Part::of(&plan, share, slot) == Part::Echo).collect::<Vec<u32>>()
        };
        assert_eq!([0, 1, 2, 3].map(active), [vec![83, 166, 249], vec![83, 166, 249], vec![124, 249], vec![124, 249]]);
    }
}
