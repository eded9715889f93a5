//! Heartbeats and hibernation: what becomes of open connections that are quiet.
//!
//! Whatever comes from a peer writes the tick into its connection, and nothing else: the wheel is not
//! touched. When its entry there comes up, the connection is looked at, and the entry goes in again for
//! whatever is next: it is pinged, given up, or has spoken meanwhile.

use std::mem;

use crate::handler::{Handler, Transport};
use crate::ring::Driver;
use crate::slab::Key;
use crate::timer::TICK_MS;
use crate::worker::connection::Connection;
use crate::worker::context::{Context, tick_of};
use crate::worker::{Options, Worker};

/// How heartbeats tell that a peer is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Beat {
    /// After so long without a sign of life the peer is asked for one.
    pub interval_ms: u64,
    /// So much later it is given up.
    pub timeout_ms: u64,
}

/// A Ping without content (RFC 6455 section 5.5.2).
const PING: &[u8] = &[0x89, 0x00];
/// When a connection is looked at again that was busy, so that its silence told nothing.
const BUSY_MS: u64 = 1_000;

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Looks at an open connection whose entry in the wheel came up.
    pub(super) fn look_at(&mut self, key: Key) -> Look {
        let count = self.connections.len();
        let context = &mut self.context;
        let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.is_idle()) else {
            return Look::Settle;
        };
        let falls_asleep = !mem::take(&mut connection.is_lively)
            && !connection.hibernates
            && context.options.hibernate_after_ms.is_some();
        connection.hibernates |= falls_asleep;
        context.counters.hibernations += u64::from(falls_asleep);
        let is_due = beat_due_ms(connection, context).is_some_and(|due_ms| due_ms <= context.now_ms);
        if is_due && connection.was_asked && context.now_ms < context.deaf_until_ms {
            connection.is_scheduled = true;
            return Look::Again { at_ms: context.deaf_until_ms };
        }
        if is_due && connection.was_asked {
            context.counters.silent += 1;
            connection.end_silence(key, context);
            return Look::Settle;
        }
        if is_due && connection.takes_turn(count, context) {
            let active = connection.active.get_or_insert_with(|| context.take_active(connection.deflate));
            active.queue.push_static(PING);
            connection.was_asked = true;
            connection.quiet_since = context.tick;
            context.counters.pings += 1;
            return Look::Settle;
        }
        match connection.next_look_ms(context) {
            Some(at_ms) if !falls_asleep => {
                connection.is_scheduled = true;
                Look::Again { at_ms }
            }
            _ => Look::Settle,
        }
    }
}

/// What follows a look at a connection.
pub(super) enum Look {
    /// Nothing but another look.
    Again {
        /// When.
        at_ms: u64,
    },
    /// Something has to be asked for.
    Settle,
}

impl Connection {
    /// Begins the heartbeats of a connection that has just been opened: as if it had been quiet for a part of
    /// the interval, another part for each slot. So those that came together are not pinged together.
    pub(super) fn begin_heartbeats(&mut self, slot: u32, tick: u32, options: &Options) {
        let Some(beat) = options.ping else { return };
        let ticks = beat.interval_ms / TICK_MS;
        // Multiples of the golden ratio leave no large gap, however many there are.
        let part = u64::from(slot.wrapping_mul(GOLDEN_RATIO));
        let ago = (ticks * part) >> u32::BITS;
        self.quiet_since = tick.wrapping_sub(u32::try_from(ago).unwrap_or(u32::MAX));
    }

    /// Whether this is the time for a ping that is due. If many are, it comes up again when it is its turn.
    fn takes_turn<H: Handler>(&mut self, count: usize, context: &mut Context<H>) -> bool {
        let Some(beat) = context.options.ping.filter(|_| !mem::take(&mut self.has_turn)) else { return true };
        let latest_ms = context.now_ms + beat.interval_ms.saturating_sub(2 * TICK_MS);
        let at_ms = context.pacer.place(context.now_ms, beat.interval_ms, count).min(latest_ms);
        if at_ms > context.now_ms {
            self.has_turn = true;
            // As if nothing had been heard since so long before that.
            let ticks = u32::try_from(beat.interval_ms / TICK_MS).unwrap_or(u32::MAX);
            self.quiet_since = tick_of(at_ms + TICK_MS - 1).wrapping_sub(ticks);
        }
        at_ms <= context.now_ms
    }

    /// When the wheel is to bring this connection up for a look.
    pub(super) fn next_look_ms<H: Handler>(&self, context: &Context<H>) -> Option<u64> {
        let soon = context.now_ms + BUSY_MS;
        let beat = beat_due_ms(self, context).map(|due_ms| if due_ms <= context.now_ms { soon } else { due_ms });
        // If it answers soon, the next ping may be due before the wait for this one is over.
        let next = context.options.ping.filter(|_| self.was_asked).map(|beat| context.now_ms + beat.interval_ms);
        let after_ms = context.options.hibernate_after_ms.filter(|_| !self.hibernates);
        beat.into_iter().chain(next).chain(after_ms.map(|after_ms| context.now_ms + after_ms)).min()
    }
}

/// Gives each ping its time, so that many that are due together don't go out together: whatever held them up
/// would otherwise hold up what comes next, and again after each interval.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// When the next one would go out if all went out evenly.
    next_us: u64,
}

/// How much faster than evenly they may go out: what is late catches up.
const HASTE: (u64, u64) = (5, 4);
/// So many may go out at once, or what goes out in so long.
const BURST_COUNT: u64 = 64;
const BURST_MS: u64 = 4 * TICK_MS;

impl Pacer {
    /// The time for one more ping of `count` connections that have one each interval: now, or later.
    fn place(&mut self, now_ms: u64, interval_ms: u64, count: usize) -> u64 {
        let (faster, slower) = HASTE;
        let apart_us = interval_ms * 1_000 * slower / (faster * count.max(1) as u64);
        let at_us = self.next_us.max(now_ms * 1_000);
        self.next_us = at_us + apart_us;
        let burst_us = (BURST_MS * 1_000).max(BURST_COUNT * apart_us);
        if at_us <= now_ms * 1_000 + burst_us { now_ms } else { (at_us - burst_us) / 1_000 }
    }
}

/// 2^32 divided by the golden ratio.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;

/// When a connection must be pinged, or given up if it was: up to a tick early, since the time of what was
/// heard is known to a tick. There are no pings over a stream.
fn beat_due_ms<H: Handler>(connection: &Connection, context: &Context<H>) -> Option<u64> {
    let beat = context.options.ping.filter(|_| connection.transport == Transport::WebSocket)?;
    let quiet_ms = u64::from(context.tick.wrapping_sub(connection.quiet_since)) * TICK_MS;
    let patience_ms = if connection.was_asked { beat.timeout_ms } else { beat.interval_ms };
    Some((context.now_ms / TICK_MS * TICK_MS + patience_ms).saturating_sub(quiet_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_that_come_due_together_go_out_at_little_more_than_the_even_pace() {
        const COUNT: usize = 10_000;
        let (mut pacer, mut places) = (Pacer::default(), Vec::new());
        for _ in 0..COUNT {
            places.push(pacer.place(5_000, 25_000, COUNT));
        }
        let at_once = places.iter().filter(|&&at_ms| at_ms == 5_000).count();
        // Evenly, 400 go out in a second; these may be faster by a quarter.
        assert!((64..=66).contains(&at_once), "{at_once} at once");
        assert_eq!(places.iter().filter(|&&at_ms| (6_000..7_000).contains(&at_ms)).count(), 500);
        assert_eq!(places.last(), Some(&(5_000 + 20_000 - 130)));
    }

    #[test]
    fn pings_that_come_due_evenly_are_not_held_up() {
        let mut pacer = Pacer::default();
        for number in 0..100_000 {
            let now_ms = number * 25_000 / 100_000 / TICK_MS * TICK_MS;
            assert_eq!(pacer.place(now_ms, 25_000, 100_000), now_ms);
        }
    }
}
