//! Kinds of faults.

/// What was done to a worker, by kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    OneByteReceive,
    ShortReceive,
    NoBuffers,
    SeriesEnded,
    ShortFill,
    ReadableForNothing,
    ShortSend,
    BlockedSend,
    CancelledSend,
    CancelledReceive,
    Reset,
    FinMidStream,
    AcceptError,
    AcceptEnded,
    MissedCancel,
    TableFull,
    Delay,
    Reordering,
    LateClose,
}

impl Fault {
    pub(crate) const ALL: [Self; 19] = [
        Self::OneByteReceive,
        Self::ShortReceive,
        Self::NoBuffers,
        Self::SeriesEnded,
        Self::ShortFill,
        Self::ReadableForNothing,
        Self::ShortSend,
        Self::BlockedSend,
        Self::CancelledSend,
        Self::CancelledReceive,
        Self::Reset,
        Self::FinMidStream,
        Self::AcceptError,
        Self::AcceptEnded,
        Self::MissedCancel,
        Self::TableFull,
        Self::Delay,
        Self::Reordering,
        Self::LateClose,
    ];
}
