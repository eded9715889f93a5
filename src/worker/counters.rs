//! What a worker counts.

/// Events of a worker since its start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections opened: upgrades that succeeded, and streams.
    pub opened: u64,
    /// Requests answered with a page.
    pub pages: u64,
    /// Requests refused by an HTTP status.
    pub refused: u64,
    /// Connections that did not finish their request in time.
    pub handshake_timeouts: u64,
    /// Messages delivered to the handler.
    pub messages: u64,
    /// Bytes of those messages.
    pub message_bytes: u64,
    /// Bytes of streams delivered to the handler.
    pub stream_bytes: u64,
    /// Bytes copied on their way through the worker: messages that span receive buffers, once, and
    /// what is written to send blocks, headers included.
    pub copied_bytes: u64,
    /// Sessions ended for a rule of the protocol or a limit of it.
    pub protocol_errors: u64,
    /// Connections closed since their queue was over its bound when something was published, or
    /// far over it when something was delivered.
    pub slow_consumers: u64,
    /// Connections ended because nothing could be sent to them for too long.
    pub stalled: u64,
    /// Pings sent to connections of which nothing was heard.
    pub pings: u64,
    /// Connections ended since nothing was heard of them for too long, not even a pong, nor an answer to the
    /// kernel's keepalive.
    pub silent: u64,
    /// How often a connection that was received from went into hibernation.
    pub hibernations: u64,
    /// Connections ended for want of memory.
    pub shed: u64,
    /// Peers that left without a Close.
    pub lost: u64,
    /// Connections cut because they did not end in time after our Close.
    pub close_timeouts: u64,
    /// How often reading from a connection was paused since its queue was over the bound.
    pub pauses: u64,
    /// How often accepting was paused for want of descriptors, memory or room in the table.
    pub accept_pauses: u64,
    /// How often a receive found no buffer.
    pub buffer_shortages: u64,
    /// Things for other workers that found their mailbox full.
    pub mail_dropped: u64,
    /// Connections that got no windows for compression for want of memory: their messages stand alone.
    pub windows_denied: u64,
    /// Messages sent as they are since there was too much to compress in that second.
    pub deflates_skipped: u64,
    /// Connections closed: after `accepted` of them, every slot is free again.
    pub closed: u64,
}
