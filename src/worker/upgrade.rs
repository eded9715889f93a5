//! The first bytes of a connection: its upgrade request, or whatever else it says.

use crate::handler::{CloseCause, Handler};
use crate::proto::http::{
    HeadScanner, Refusal, Request, Upgrade, write_page, write_refusal, write_switching_protocols,
};
use crate::proto::ws::ReservedBits;
use crate::proto::ws::deflate::{self, HeaderValue, Parameters, Policy};
use crate::slab::Key;
use crate::worker::active::Active;
use crate::worker::connection::{Connection, Farewell, Phase};
use crate::worker::context::Context;

/// Room for a response head; a page asks for its own length on top.
const RESPONSE_LEN: usize = 512;

impl Connection {
    /// Reads the request head and answers it; returns what follows the head.
    ///
    /// After a refusal nothing is parsed any more, neither as a request nor as frames.
    pub(super) fn receive_head<'b, H: Handler>(
        &mut self,
        key: Key,
        active: &mut Active,
        input: &'b mut [u8],
        context: &mut Context<H>,
    ) -> &'b mut [u8] {
        let (mut scanner, held) = match active.head.take() {
            Some((scanner, block)) => (scanner, Some(block)),
            None => (HeadScanner::new(), None),
        };
        match scanner.scan(input, &context.options.head) {
            Ok(Some(len)) => {
                let (head, rest) = input.split_at_mut(len);
                match held {
                    // The usual case: the head came whole and is read where it arrived.
                    None => self.answer(key, active, head, context),
                    Some(mut block) => {
                        block.extend_from_slice(head);
                        self.answer(key, active, &block, context);
                        context.pool.give(block);
                    }
                }
                rest
            }
            Ok(None) => {
                let mut block = held.unwrap_or_else(|| context.pool.take(input.len()));
                block.extend_from_slice(input);
                active.head = Some((scanner, block));
                &mut []
            }
            Err(refusal) => {
                if let Some(block) = held {
                    context.pool.give(block);
                }
                self.refuse(key, active, refusal, context);
                &mut []
            }
        }
    }

    fn answer<H: Handler>(&mut self, key: Key, active: &mut Active, head: &[u8], context: &mut Context<H>) {
        let answered = Request::parse(head, &context.options.head).and_then(|request| match request.upgrade()? {
            Some(upgrade) => {
                let accept = context.handler.on_upgrade(context.id(key), &request, &upgrade)?;
                // A name that was not offered would make the client fail (section 4.1), and one that is
                // no token would break the response.
                let offered = |name: &&str| upgrade.subprotocols().any(|offered| offered == *name);
                let subprotocol = accept.subprotocol.filter(offered);
                let parameters = agree(&upgrade, accept.compression, context);
                let extensions = parameters.map(|parameters| parameters.header_value());
                active.queue.write(&mut context.pool, RESPONSE_LEN, |out| {
                    let extensions = extensions.as_ref().map(HeaderValue::as_str);
                    write_switching_protocols(out, &upgrade.accept_key(), subprotocol, extensions);
                });
                if let Some(parameters) = parameters {
                    self.deflate = Some(context.compression.agree(key, &parameters));
                    active.session.set_reserved_bits(ReservedBits::Deflate);
                }
                Ok(Phase::Open)
            }
            None => {
                let page = context.handler.on_get(&request)?;
                active.queue.write(&mut context.pool, RESPONSE_LEN + page.body.len(), |out| {
                    write_page(out, page.content_type, page.body.as_bytes());
                });
                Ok(Phase::Finishing)
            }
        });
        match answered {
            Ok(Phase::Open) => {
                self.phase = Phase::Open;
                self.begin_heartbeats(key.slot, context.tick, &context.options);
                context.counters.opened += 1;
                self.call(key, active, context, H::on_open);
            }
            Ok(_) => {
                context.counters.pages += 1;
                self.finish(key, active, CloseCause::Lost, Farewell::Linger, context);
            }
            Err(refusal) => self.refuse(key, active, refusal, context),
        }
    }

    fn refuse<H: Handler>(&mut self, key: Key, active: &mut Active, refusal: Refusal, context: &mut Context<H>) {
        context.counters.refused += 1;
        active.queue.write(&mut context.pool, RESPONSE_LEN, |out| write_refusal(out, refusal));
        self.finish(key, active, CloseCause::Lost, Farewell::Linger, context);
    }
}

/// Accepts an offer of compression, with windows as long as there is memory for them.
fn agree<H: Handler>(upgrade: &Upgrade<'_>, policy: Policy, context: &mut Context<H>) -> Option<Parameters> {
    let memory_left = context.compression.memory_left();
    let wanted = deflate::negotiate(upgrade.extensions(), policy, usize::MAX)?;
    if wanted.memory_max() <= memory_left {
        return Some(wanted);
    }
    context.counters.windows_denied += 1;
    deflate::negotiate(upgrade.extensions(), policy, memory_left)
}
