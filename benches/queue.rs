//! A message through a queue: pushed, delivered and acknowledged, with one consumer and with a
//! hundred, each of which may have one message or a hundred at a time.
//!
//! Beside it a textbook queue, which does less: a list that waits, a map of what is not acknowledged
//! by delivery, and a list of the consumers with room. It has no limits, no order of return, no
//! cumulative acknowledgement but by a search, and no weights.

mod groups;
mod textbook {
    pub(crate) mod queue;
}

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use ringsock::broker::queue::{ConsumerId, DeliveryId, Dispatch, Limits, Queue};
use ringsock::proto::stomp::AckMode;

use groups::{Group, group, measure, run};
use textbook::queue::Textbook;

/// How many consumers there are, and the prefetch of each.
const ROWS: [(u64, u32); 4] = [(1, 1), (1, 100), (100, 1), (100, 100)];
/// How many messages are moved in a measurement.
const COUNT: usize = 10_000;
/// How many messages wait while others come back.
const BACKLOG: usize = 100_000;

fn main() {
    run(|criterion| {
        acknowledged(criterion);
        automatic(criterion);
        returned(criterion);
    });
}

/// As many messages as all consumers may have are pushed and delivered, then acknowledged in the order
/// of delivery.
fn acknowledged(criterion: &mut Criterion) {
    let mut group = group(criterion, "push, deliver, ack");
    for (consumers, prefetch) in ROWS {
        let row = format!("{consumers} x {prefetch}");
        let batch = usize::try_from(consumers).expect("few") * prefetch as usize;
        let message: Arc<[u8]> = Arc::from([7; 100]);
        let mut textbook = Textbook::new(consumers, prefetch);
        let mut under_way = Vec::new();
        moves(&mut group, "textbook", &row, || {
            for _ in 0..COUNT.div_ceil(batch) {
                (0..batch).for_each(|_| textbook.push(black_box(&message).clone()));
                while let Some((consumer, delivery, message)) = textbook.deliver() {
                    black_box(message);
                    under_way.push((consumer, delivery));
                }
                for (consumer, delivery) in under_way.drain(..) {
                    textbook.ack(consumer, delivery);
                }
            }
        });
        for (name, mode) in [("ringsock", AckMode::ClientIndividual), ("ringsock, client mode", AckMode::Client)] {
            let mut queue = queue_of(consumers, mode, prefetch);
            let mut under_way = Vec::new();
            moves(&mut group, name, &row, || {
                for _ in 0..COUNT.div_ceil(batch) {
                    push(&mut queue, batch, &message);
                    deliver(&mut queue, &mut under_way);
                    for (consumer, delivery) in under_way.drain(..) {
                        queue.ack(consumer, delivery).expect("it was just delivered");
                    }
                }
            });
        }
    }
    group.finish();
}

/// The same to consumers that do not acknowledge.
fn automatic(criterion: &mut Criterion) {
    let mut group = group(criterion, "push, deliver");
    for (consumers, prefetch) in ROWS {
        let row = format!("{consumers} x {prefetch}");
        let batch = usize::try_from(consumers).expect("few") * prefetch as usize;
        let message: Arc<[u8]> = Arc::from([7; 100]);
        let mut queue = queue_of(consumers, AckMode::Auto, prefetch);
        let mut under_way = Vec::new();
        moves(&mut group, "ringsock", &row, || {
            for _ in 0..COUNT.div_ceil(batch) {
                push(&mut queue, batch, &message);
                deliver(&mut queue, &mut under_way);
                under_way.drain(..).for_each(|(consumer, _)| queue.written(consumer, 1));
            }
        });
    }
    group.finish();
}

/// A consumer comes, is given its prefetch and is lost, while many messages wait.
fn returned(criterion: &mut Criterion) {
    let mut group = group(criterion, "deliver, lose the consumer");
    for prefetch in [1, 100, 1_000] {
        let message: Arc<[u8]> = Arc::from([7; 100]);
        let mut queue = queue_of(0, AckMode::Client, prefetch);
        push(&mut queue, BACKLOG, &message);
        let mut under_way = Vec::new();
        moves(&mut group, "ringsock", format!("of {prefetch}"), || {
            for _ in 0..COUNT.div_ceil(prefetch as usize) {
                queue.subscribe(ConsumerId(1), AckMode::Client, prefetch).expect("nobody else is there");
                deliver(&mut queue, &mut under_way);
                under_way.clear();
                queue.leave(ConsumerId(1));
            }
        });
    }
    group.finish();
}

fn moves(group: &mut Group<'_>, name: &str, row: impl std::fmt::Display, work: impl FnMut()) {
    measure(group, name, row, Throughput::Elements(COUNT as u64), work);
}

fn queue_of(consumers: u64, mode: AckMode, prefetch: u32) -> Queue<Arc<[u8]>> {
    let mut queue = Queue::new(Limits { deliveries_max: u32::MAX, ..Limits::default() });
    for id in 0..consumers {
        queue.subscribe(ConsumerId(id), mode, prefetch).expect("there may be more");
    }
    queue
}

fn push(queue: &mut Queue<Arc<[u8]>>, count: usize, message: &Arc<[u8]>) {
    for _ in 0..count {
        queue.push(black_box(message).clone(), message.len(), 0).expect("there is room");
    }
}

fn deliver(queue: &mut Queue<Arc<[u8]>>, under_way: &mut Vec<(ConsumerId, DeliveryId)>) {
    while let Some(dispatch) = queue.poll_dispatch(0) {
        let Dispatch::Delivery(delivery) = dispatch else { panic!("nothing is too old") };
        black_box(delivery.message);
        under_way.push((delivery.consumer, delivery.id));
    }
}
