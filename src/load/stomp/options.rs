//! What a plan says of STOMP beside what every load has.

use std::process;

use crate::load::Mode;

/// The numbers and names of a STOMP load.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StompOptions {
    /// Who connects, if the server wants to know.
    pub login: Option<String>,
    /// What goes with the login.
    pub passcode: Option<String>,
    /// The topic, or the queue, if not one of this process's own: a queue keeps what nobody has consumed.
    pub destination: Option<String>,
    /// Queues, over which producers and consumers are spread.
    pub queues: u32,
    /// Messages that a consumer is given before it has acknowledged them.
    pub prefetch: u32,
    /// Per cent of the subscribers that must have a message before it no longer counts as under way.
    pub quorum: u32,
}

impl Default for StompOptions {
    fn default() -> Self {
        Self { login: None, passcode: None, destination: None, queues: 1, prefetch: 100, quorum: 100 }
    }
}

impl StompOptions {
    /// Where the connection with this number, among publishers or among those who receive, sends to or
    /// receives from.
    #[must_use]
    pub fn destination(&self, mode: Mode, number: u32) -> String {
        let kind = if mode == Mode::StompQueue { "queue" } else { "topic" };
        let name = match &self.destination {
            Some(name) => name.clone(),
            None => format!("/{kind}/ringsock-bench-{}", process::id()),
        };
        if self.queues > 1 { format!("{name}-{}", number % self.queues) } else { name }
    }

    /// How many of so many subscribers are enough.
    pub(in crate::load) fn quorum_of(&self, subscribers: u32) -> u32 {
        let enough = (u64::from(subscribers) * u64::from(self.quorum)).div_ceil(100);
        u32::try_from(enough).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_over_the_queues() {
        let options = StompOptions { destination: Some("/queue/a".into()), ..StompOptions::default() };
        assert_eq!(options.destination(Mode::StompQueue, 7), "/queue/a");
        let options = StompOptions { queues: 3, ..options };
        assert_eq!(
            [2, 3, 4].map(|number| options.destination(Mode::StompQueue, number)),
            ["/queue/a-2", "/queue/a-0", "/queue/a-1"]
        );
        assert!(StompOptions::default().destination(Mode::StompTopic, 0).starts_with("/topic/ringsock-bench-"));
    }

    #[test]
    fn a_quorum_is_rounded_up_and_never_nobody() {
        let quorum = |quorum| StompOptions { quorum, ..StompOptions::default() };
        assert_eq!((quorum(100).quorum_of(1_000), quorum(100).quorum_of(0)), (1_000, 1));
        assert_eq!((quorum(90).quorum_of(11), quorum(1).quorum_of(5)), (10, 1));
    }
}
