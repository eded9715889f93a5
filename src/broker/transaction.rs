//! The open transactions of one connection: what is to be done all together, or not at all.

/// The limits of one connection's transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many are open.
    pub count_max: usize,
    /// How many actions each has.
    pub actions_max: usize,
    /// How many bytes the actions of each have together.
    pub bytes_max: usize,
    /// How long each is open.
    pub age_ms_max: u64,
}

/// Why a transaction was not begun, changed or ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransactionError {
    /// A transaction of that id is open.
    Duplicate,
    /// No transaction of that id is open.
    Unknown,
    /// As many are open as may be.
    TooMany,
    /// It has more actions than the limit.
    TooManyActions,
    /// Its actions have more bytes than the limit.
    TooLarge,
    /// It has been open for longer than the limit.
    TooOld,
}

/// The open transactions of one connection, whose actions are an `A` each: a SEND, ACK or NACK.
///
/// A transaction that breaks a limit is gone with that, so that no part of it can be committed. What
/// is open when this is dropped is aborted.
///
/// ```
/// use ringsock::broker::transaction::{Limits, TransactionError, Transactions};
///
/// let mut transactions = Transactions::new(Limits::default());
/// transactions.begin("t1", 0)?;
/// transactions.add("t1", "SEND", 100, 1)?;
/// transactions.add("t1", "ACK", 0, 2)?;
/// assert_eq!(transactions.commit("t1", 3)?, ["SEND", "ACK"]);
/// assert_eq!(transactions.commit("t1", 4), Err(TransactionError::Unknown));
/// # Ok::<(), TransactionError>(())
/// ```
#[derive(Debug)]
pub struct Transactions<A> {
    limits: Limits,
    /// In the order in which they began. There are so few that a search is faster than a map.
    open: Vec<Transaction<A>>,
}

#[derive(Debug)]
struct Transaction<A> {
    id: Box<str>,
    begun_ms: u64,
    actions: Vec<A>,
    bytes: usize,
}

impl<A> Transactions<A> {
    /// No transactions, which own no memory yet.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new() }
    }

    /// Opens a transaction.
    ///
    /// # Errors
    ///
    /// One of that id is open, or as many as may be.
    pub fn begin(&mut self, id: &str, now_ms: u64) -> Result<(), TransactionError> {
        if self.index_of(id).is_ok() {
            return Err(TransactionError::Duplicate);
        }
        if self.open.len() >= self.limits.count_max {
            return Err(TransactionError::TooMany);
        }
        self.open.push(Transaction { id: id.into(), begun_ms: now_ms, actions: Vec::new(), bytes: 0 });
        Ok(())
    }

    /// Appends an action, which stands for `len` bytes, to an open transaction.
    ///
    /// # Errors
    ///
    /// None of that id is open, or it breaks a limit, and is not open any more.
    pub fn add(&mut self, id: &str, action: A, len: usize, now_ms: u64) -> Result<(), TransactionError> {
        let index = self.index_of(id)?;
        if let Err(error) = self.check(index, len, now_ms) {
            self.end(index);
            return Err(error);
        }
        let transaction = &mut self.open[index];
        transaction.bytes += len;
        transaction.actions.push(action);
        Ok(())
    }

    /// Ends an open transaction and returns its actions, in order.
    ///
    /// # Errors
    ///
    /// None of that id is open, or it was for too long, and is not any more.
    pub fn commit(&mut self, id: &str, now_ms: u64) -> Result<Vec<A>, TransactionError> {
        let index = self.index_of(id)?;
        let transaction = self.end(index);
        match self.is_old(&transaction, now_ms) {
            true => Err(TransactionError::TooOld),
            false => Ok(transaction.actions),
        }
    }

    /// Ends an open transaction and forgets its actions.
    ///
    /// # Errors
    ///
    /// None of that id is open.
    pub fn abort(&mut self, id: &str) -> Result<(), TransactionError> {
        let index = self.index_of(id)?;
        self.end(index);
        Ok(())
    }

    /// Aborts what has been open for too long, to be called when [`Transactions::poll_timeout`] has come.
    ///
    /// # Errors
    ///
    /// There was something, and the peer should be told.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), TransactionError> {
        let count = self.open.iter().take_while(|transaction| self.is_old(transaction, now_ms)).count();
        if count == 0 {
            return Ok(());
        }
        self.open.drain(..count);
        self.give_memory_back();
        Err(TransactionError::TooOld)
    }

    /// When the first of the open transactions is too old.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let oldest = self.open.first()?;
        Some(oldest.begun_ms.saturating_add(self.limits.age_ms_max)).filter(|&at_ms| at_ms < u64::MAX)
    }

    /// How many transactions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no transaction is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many bytes all actions stand for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.open.iter().map(|transaction| transaction.bytes).sum()
    }

    /// The first limit that one more action would break.
    fn check(&self, index: usize, len: usize, now_ms: u64) -> Result<(), TransactionError> {
        let transaction = &self.open[index];
        if self.is_old(transaction, now_ms) {
            return Err(TransactionError::TooOld);
        }
        if transaction.actions.len() >= self.limits.actions_max {
            return Err(TransactionError::TooManyActions);
        }
        // What was let in has no more than that.
        if len > self.limits.bytes_max - transaction.bytes {
            return Err(TransactionError::TooLarge);
        }
        Ok(())
    }

    fn is_old(&self, transaction: &Transaction<A>, now_ms: u64) -> bool {
        transaction.begun_ms.saturating_add(self.limits.age_ms_max) <= now_ms
    }

    fn end(&mut self, index: usize) -> Transaction<A> {
        let transaction = self.open.remove(index);
        self.give_memory_back();
        transaction
    }

    /// Most connections have no transaction most of the time.
    fn give_memory_back(&mut self) {
        if self.open.is_empty() {
            self.open = Vec::new();
        }
    }

    fn index_of(&self, id: &str) -> Result<usize, TransactionError> {
        let index = self.open.iter().position(|transaction| &*transaction.id == id);
        index.ok_or(TransactionError::Unknown)
    }
}

impl TransactionError {
    /// The text for an ERROR frame: none of its characters is escaped in any version of STOMP.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Duplicate => "transaction is open already",
            Self::Unknown => "no such transaction",
            Self::TooMany => "too many open transactions",
            Self::TooManyActions => "too many frames in the transaction",
            Self::TooLarge => "transaction is too large",
            Self::TooOld => "transaction was open for too long",
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { count_max: 16, actions_max: 1_024, bytes_max: 1 << 20, age_ms_max: 60_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::TransactionError::{Duplicate, TooLarge, TooMany, TooManyActions, TooOld, Unknown};
    use super::*;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn transactions_do_not_mix_and_keep_the_order_of_their_actions() {
        let mut transactions = Transactions::new(Limits::default());
        assert_eq!(transactions.begin("a", 0), Ok(()));
        assert_eq!(transactions.begin("b", 0), Ok(()));
        for action in 0..6 {
            let id = if action % 2 == 0 { "a" } else { "b" };
            assert_eq!(transactions.add(id, action, 10, 0), Ok(()));
        }
        assert_eq!((transactions.len(), transactions.bytes()), (2, 60));
        assert_eq!(transactions.commit("b", 0), Ok(vec![1, 3, 5]));
        assert_eq!(transactions.commit("a", 0), Ok(vec![0, 2, 4]));
        assert!(transactions.is_empty() && transactions.bytes() == 0);
    }

    #[test]
    fn an_id_is_free_again_after_commit_and_after_abort() {
        let mut transactions = Transactions::<()>::new(Limits::default());
        assert_eq!(transactions.begin("a", 0), Ok(()));
        assert_eq!(transactions.begin("a", 0), Err(Duplicate));
        assert_eq!(transactions.commit("a", 0), Ok(vec![]));
        assert_eq!(transactions.begin("a", 0), Ok(()));
        assert_eq!(transactions.abort("a"), Ok(()));
        assert_eq!(transactions.begin("a", 0), Ok(()));
    }

    #[test]
    fn an_id_that_is_not_open_is_an_error_everywhere() {
        let mut transactions = Transactions::new(Limits::default());
        for ended in [false, true] {
            assert_eq!(transactions.add("a", (), 0, 0), Err(Unknown), "ended: {ended}");
            assert_eq!(transactions.commit("a", 0), Err(Unknown));
            assert_eq!(transactions.abort("a"), Err(Unknown));
            assert_eq!(transactions.begin("a", 0), Ok(()));
            assert_eq!(transactions.abort("a"), Ok(()));
        }
    }

    #[test]
    fn a_flood_of_begins_stops_at_the_limit() {
        let mut transactions = Transactions::<()>::new(Limits::default());
        let begun = (0..100_000).map(|number| transactions.begin(&number.to_string(), 0));
        let refused: Vec<_> = begun.filter_map(Result::err).collect();
        assert_eq!((refused.len(), refused.iter().all(|error| *error == TooMany)), (99_984, true));
        assert_eq!(transactions.len(), 16);
        assert_eq!(transactions.begin("3", 0), Err(Duplicate), "which is the more telling of two");
    }

    #[test]
    fn the_last_action_within_a_limit_is_taken_and_the_next_ends_the_transaction() {
        #[track_caller]
        fn check(count: usize, len: usize, next_len: usize, at_ms: u64, expect: TransactionError) {
            let alive = Rc::new(());
            let mut transactions = Transactions::new(Limits::default());
            assert_eq!(transactions.begin("a", 1_000), Ok(()));
            for _ in 0..count {
                assert_eq!(transactions.add("a", alive.clone(), len, 60_999), Ok(()));
            }
            assert_eq!(transactions.add("a", alive.clone(), next_len, at_ms), Err(expect));
            assert_eq!(transactions.commit("a", 1_000), Err(Unknown), "no part of it can be committed");
            assert_eq!((Rc::strong_count(&alive), transactions.open.capacity()), (1, 0));
        }
        check(1_024, 0, 0, 1_000, TooManyActions);
        check(16, 1 << 16, 1, 1_000, TooLarge);
        check(0, 0, (1 << 20) + 1, 1_000, TooLarge);
        check(1, 1, usize::MAX, 1_000, TooLarge);
        check(3, 10, 10, 61_000, TooOld);
    }

    #[test]
    fn old_transactions_end_by_the_timer_and_young_ones_stay() {
        let mut transactions = Transactions::new(Limits::default());
        assert_eq!(transactions.poll_timeout(), None);
        for (id, now_ms) in [("a", 0), ("b", 10), ("c", 20)] {
            assert_eq!(transactions.begin(id, now_ms), Ok(()));
        }
        assert_eq!(transactions.poll_timeout(), Some(60_000));
        assert_eq!(transactions.handle_timeout(59_999), Ok(()));
        assert_eq!(transactions.handle_timeout(60_010), Err(TooOld));
        assert_eq!((transactions.len(), transactions.poll_timeout()), (1, Some(60_020)));
        assert_eq!(transactions.add("c", 'c', 0, 60_019), Ok(()));
        assert_eq!(transactions.commit("c", 60_020), Err(TooOld), "the timer may be late");
        assert_eq!((transactions.len(), transactions.poll_timeout()), (0, None));
    }

    #[test]
    fn messages_need_no_escaping_in_any_version() {
        for error in [Duplicate, Unknown, TooMany, TooManyActions, TooLarge, TooOld] {
            let message = error.message();
            assert!(message.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b' ')), "{message}");
        }
    }

    const TIGHT: Limits = Limits { count_max: 3, actions_max: 4, bytes_max: 20, age_ms_max: 30 };

    /// Does the same with a map of lists: each step is what to do, to which, with what length, and how
    /// much later.
    fn check(steps: Vec<(u8, u8, usize, u64)>) {
        let mut transactions = Transactions::new(TIGHT);
        let mut model = BTreeMap::<String, (u64, Vec<(usize, usize)>)>::new();
        let mut now_ms = 0;
        for (step, (verb, id, len, passed_ms)) in steps.into_iter().enumerate() {
            now_ms += passed_ms;
            let id = id.to_string();
            let open = model.get(&id).cloned().ok_or(Unknown);
            let in_time = open.clone().and_then(|(begun_ms, actions)| match begun_ms + 30 <= now_ms {
                true => Err(TooOld),
                false => Ok((begun_ms, actions)),
            });
            match verb {
                0..=1 => {
                    let expect = match open {
                        Ok(_) => Err(Duplicate),
                        Err(_) if model.len() == 3 => Err(TooMany),
                        Err(_) => Ok(()),
                    };
                    if expect.is_ok() {
                        model.insert(id.clone(), (now_ms, Vec::new()));
                    }
                    assert_eq!(transactions.begin(&id, now_ms), expect);
                }
                2 => {
                    model.remove(&id);
                    let expect = in_time.map(|(_, actions)| actions);
                    assert_eq!(transactions.commit(&id, now_ms), expect);
                }
                3 => {
                    model.remove(&id);
                    assert_eq!(transactions.abort(&id), open.map(|_| ()));
                }
                4 => {
                    let before = model.len();
                    model.retain(|_, (begun_ms, _)| *begun_ms + 30 > now_ms);
                    let expect = if model.len() < before { Err(TooOld) } else { Ok(()) };
                    assert_eq!(transactions.handle_timeout(now_ms), expect);
                }
                _ => {
                    let expect = in_time.and_then(|(begun_ms, mut actions)| {
                        actions.push((step, len));
                        match actions.iter().map(|action| action.1).sum::<usize>() {
                            _ if actions.len() > 4 => Err(TooManyActions),
                            bytes if bytes > 20 => Err(TooLarge),
                            _ => Ok((begun_ms, actions)),
                        }
                    });
                    match &expect {
                        Ok(open) => drop(model.insert(id.clone(), open.clone())),
                        Err(_) => drop(model.remove(&id)),
                    }
                    assert_eq!(transactions.add(&id, (step, len), len, now_ms), expect.map(|_| ()));
                }
            }
            let bytes = model.values().flat_map(|open| &open.1).map(|action| action.1).sum();
            assert_eq!((transactions.len(), transactions.bytes()), (model.len(), bytes));
            let deadline = model.values().map(|open| open.0 + 30).min();
            assert_eq!(transactions.poll_timeout(), deadline);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn random_use_agrees_with_a_map_of_lists(steps in vec((0..10_u8, 0..5_u8, 0..9_usize, 0..6_u64), 0..80)) {
            check(steps);
        }
    }
}
