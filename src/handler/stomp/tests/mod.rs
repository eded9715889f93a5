//! What clients of a broker see, over one worker and over several.

mod acknowledging;
mod cluster;
mod crossing;
mod sending;
mod sessions;
mod simulation;
mod slow;
mod temporary;
mod topics;
mod transactions;

use super::*;
