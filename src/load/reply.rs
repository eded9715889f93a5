//! What an arriving message means: the echo of a request, or a publisher's delivery.

use crate::load::Validation;
use crate::load::broadcast::{MARK_LEN, Mark};
use crate::load::connection::{Connection, Part, SentAt};
use crate::load::context::Context;
use crate::load::fault::Fault;
use crate::proto::ws::Message;

impl Connection {
    pub(super) fn handle_message(&mut self, message: &Message<'_>, context: &mut Context) {
        match self.part {
            Part::Echo | Part::Idle => self.handle_echo(message, context),
            Part::SlowReader => self.handle_slow_echo(message, context),
            Part::Publisher | Part::Subscriber => self.handle_delivery(message, context),
            // It is closing.
            Part::Storm => {}
        }
    }

    fn handle_echo(&mut self, message: &Message<'_>, context: &mut Context) {
        let Some(expected) = self.expected.pop_front() else {
            // Servers may talk to idle connections.
            if self.part == Part::Echo && context.plan.validation == Validation::Full {
                self.fail(Fault::Unexpected, context);
            }
            return;
        };
        context.under_way -= 1;
        self.since_ns = context.now_ns;
        if context.plan.validation == Validation::Full
            && let Err(mismatch) = context.content.check(expected.piece, message.kind, message.bytes())
        {
            self.fail(Fault::WrongEcho(mismatch), context);
            return;
        }
        count(message, expected.at_ns, context);
        if context.answers_replies() {
            self.request(SentAt::Flush, context);
        }
    }

    fn handle_slow_echo(&mut self, message: &Message<'_>, context: &mut Context) {
        let Some(expected) = self.expected.pop_front() else { return };
        context.totals.flood_received += 1;
        if context.plan.validation == Validation::Full
            && let Err(mismatch) = context.content.check(expected.piece, message.kind, message.bytes())
        {
            context.faults.add(Fault::WrongEcho(mismatch), 1);
            self.retired = true;
            self.die(context);
        }
    }

    fn handle_delivery(&mut self, message: &Message<'_>, context: &mut Context) {
        let found = Mark::find(message.bytes());
        let known = found.filter(|(mark, _)| (mark.publisher as usize) < self.next_sequences.len());
        let Some((mark, rest)) = known else {
            if context.plan.validation == Validation::Full {
                self.fail(Fault::WrongDelivery, context);
            }
            return;
        };
        if context.plan.validation == Validation::Full
            && let Err(fault) = self.check_delivery(mark, rest, context)
        {
            self.fail(fault, context);
            return;
        }
        self.delivered += 1;
        count(message, mark.sent_ns, context);
        if self.part == Part::Publisher && mark.publisher == self.index && self.expected.pop_front().is_some() {
            context.under_way -= 1;
            self.since_ns = context.now_ns;
            if context.answers_replies() {
                self.request(SentAt::Flush, context);
            }
        }
    }

    fn check_delivery(&mut self, mark: Mark, rest: &[u8], context: &Context) -> Result<(), Fault> {
        let len = u32::try_from(rest.len()).map_err(|_| Fault::WrongDelivery)?;
        if len + MARK_LEN > context.plan.sizes.max() || context.content.bytes(mark.piece(len)) != rest {
            return Err(Fault::WrongDelivery);
        }
        let next = &mut self.next_sequences[mark.publisher as usize];
        if mark.sequence != *next {
            return Err(Fault::Disorder);
        }
        *next = next.wrapping_add(1);
        Ok(())
    }
}

fn count(message: &Message<'_>, at_ns: u64, context: &mut Context) {
    let len = message.bytes().len();
    context.totals.received += 1;
    context.totals.received_bytes += len as u64;
    context.record(at_ns, len);
}
