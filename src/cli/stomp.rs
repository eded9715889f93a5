//! The options of `ringsock bench` for STOMP.

use clap::{Args, ValueEnum};

use crate::load::{Mode, StompOptions};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "STOMP")]
#[group(skip)]
pub(super) struct Arguments {
    /// Speak STOMP 1.2, over WebSocket or over TCP (tcp://host:port)
    ///
    /// --publishers send; --connections [default: 1000 subscribers, or 10 consumers] receive. --depth [default: 4 for
    /// a topic, 64 for queues] is how many messages each publisher has under way: the next one follows when one has
    /// arrived at all subscribers, or at a consumer. With --rate they are sent at that rate instead. A message has
    /// 256 bytes of text if nothing else is said. Every subscriber must get each message once and in order, and each
    /// message of a queue one consumer once; what deviates is an error.
    #[arg(long, value_enum, value_name = "WORKLOAD", num_args = 0..=1, require_equals = true,
        default_missing_value = "topic", conflicts_with = "mode")]
    pub(super) stomp: Option<Workload>,
    /// Who connects (RabbitMQ: guest)
    #[arg(long, value_name = "NAME", requires = "stomp")]
    login: Option<String>,
    /// What goes with the login
    #[arg(long, value_name = "SECRET", requires = "stomp")]
    passcode: Option<String>,
    /// The topic or queue [default: one of its own, such as /topic/ringsock-bench-4711]
    #[arg(long, value_name = "NAME", requires = "stomp")]
    destination: Option<String>,
    /// Queues, over which publishers and consumers are spread: NAME-0, NAME-1, ...
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    queues: u32,
    /// Messages of a queue that a consumer is given before it has acknowledged them
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    prefetch: u32,
    /// How many of a topic's subscribers, in per cent, must have a message before it no longer counts as under way
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    quorum: u32,
}

/// What is done with STOMP.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Workload {
    /// Every message goes to all subscribers of a topic
    Topic,
    /// Every message goes to one consumer of a queue, which acknowledges it
    Queue,
}

impl Arguments {
    pub(super) fn mode(&self) -> Option<Mode> {
        self.stomp.map(|workload| match workload {
            Workload::Topic => Mode::StompTopic,
            Workload::Queue => Mode::StompQueue,
        })
    }

    pub(super) fn into_options(self, mode: Mode) -> Option<StompOptions> {
        let Self { login, passcode, destination, queues, prefetch, quorum, .. } = self;
        mode.is_stomp().then_some(StompOptions { login, passcode, destination, queues, prefetch, quorum })
    }
}
