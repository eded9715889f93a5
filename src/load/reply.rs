//! What an arriving message means: the echo of a request, or a publisher's delivery.

use crate::load::Validation;
use crate::load::active::Expected;
use crate::load::broadcast::{Ledger, MARK_LEN, Mark};
use crate::load::connection::{Connection, SentAt};
use crate::load::context::Context;
use crate::load::fault::Fault;
use crate::load::part::Part;
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
        let Some(expected) = self.take_expected() else {
            // Servers may talk to idle connections.
            if self.part == Part::Echo && context.plan.validation == Validation::Full {
                self.fail(Fault::Unexpected, context);
            }
            return;
        };
        *context.awaited(self.part) -= 1;
        self.since_ns = context.now_ns;
        if context.plan.validation == Validation::Full
            && let Err(mismatch) = context.content.check(expected.piece, message.kind, message.bytes())
        {
            self.fail(Fault::WrongEcho(mismatch), context);
            return;
        }
        count(message, context);
        if self.part == Part::Idle {
            context.recorder.verify(context.now_ns.saturating_sub(expected.at_ns));
            return;
        }
        context.record(expected.at_ns, message.bytes().len());
        if context.answers_replies() {
            self.request(SentAt::Flush, context);
        }
    }

    fn take_expected(&mut self) -> Option<Expected> {
        self.active.as_mut()?.expected.pop_front()
    }

    fn handle_slow_echo(&mut self, message: &Message<'_>, context: &mut Context) {
        let Some(expected) = self.take_expected() else { return };
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
        let known = found.zip(self.ledger.as_mut());
        let known = known.filter(|((mark, _), ledger)| (mark.publisher as usize) < ledger.next_sequences.len());
        let Some(((mark, rest), ledger)) = known else {
            if context.plan.validation == Validation::Full {
                self.fail(Fault::WrongDelivery, context);
            }
            return;
        };
        if context.plan.validation == Validation::Full
            && let Err(fault) = check_delivery(mark, rest, ledger, context)
        {
            self.fail(fault, context);
            return;
        }
        ledger.delivered += 1;
        let is_own = self.part == Part::Publisher && mark.publisher == ledger.publisher;
        count(message, context);
        context.record(mark.sent_ns, message.bytes().len());
        if is_own && self.take_expected().is_some() {
            context.under_way -= 1;
            self.since_ns = context.now_ns;
            if context.answers_replies() {
                self.request(SentAt::Flush, context);
            }
        }
    }
}

fn check_delivery(mark: Mark, rest: &[u8], ledger: &mut Ledger, context: &Context) -> Result<(), Fault> {
    let len = u32::try_from(rest.len()).map_err(|_| Fault::WrongDelivery)?;
    if len + MARK_LEN > context.plan.sizes.max() || context.content.bytes(mark.piece(len)) != rest {
        return Err(Fault::WrongDelivery);
    }
    let next = &mut ledger.next_sequences[mark.publisher as usize];
    if mark.sequence != *next {
        return Err(Fault::Disorder);
    }
    *next = next.wrapping_add(1);
    Ok(())
}

fn count(message: &Message<'_>, context: &mut Context) {
    context.totals.received += 1;
    context.totals.received_bytes += message.bytes().len() as u64;
}
