//! What a queue promises, one case at a time.

mod model;

use super::AckMode::{Auto, Client, ClientIndividual};
use super::*;

const ANN: ConsumerId = ConsumerId(1);
const BOB: ConsumerId = ConsumerId(2);
const CAT: ConsumerId = ConsumerId(3);

/// A queue with these consumers, and with messages 0 to `count` of ten bytes each.
fn queue_of(limits: Limits, consumers: &[(ConsumerId, AckMode, u32)], count: u64) -> Queue<u64> {
    let mut queue = Queue::new(limits);
    for &(consumer, mode, prefetch) in consumers {
        assert_eq!(queue.subscribe(consumer, mode, prefetch), Ok(()));
    }
    for message in 0..count {
        assert_eq!(queue.push(message, 10, 0), Ok(()));
    }
    queue
}

/// All deliveries that can be made, which is all that there is to do.
fn deliveries(queue: &mut Queue<u64>, now_ms: u64) -> Vec<Delivery<u64>> {
    let dispatches = std::iter::from_fn(|| queue.poll_dispatch(now_ms));
    let delivery = |dispatch| match dispatch {
        Dispatch::Delivery(delivery) => delivery,
        other => panic!("{other:?} is no delivery"),
    };
    dispatches.map(delivery).collect()
}

/// To whom which message was delivered for how many times.
fn brief(deliveries: &[Delivery<u64>]) -> Vec<(u64, u64, u32)> {
    deliveries.iter().map(|delivery| (delivery.consumer.0, delivery.message, delivery.delivery_count)).collect()
}

fn messages(deliveries: &[Delivery<u64>]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.message).collect()
}

/// All that can be done, which is to hand out dead letters.
fn dead_letters(queue: &mut Queue<u64>, now_ms: u64) -> Vec<(u64, u32, Cause)> {
    let dispatches = std::iter::from_fn(|| queue.poll_dispatch(now_ms));
    let letter = |dispatch| match dispatch {
        Dispatch::DeadLetter(letter) => (letter.message, letter.delivery_count, letter.cause),
        other => panic!("{other:?} is no dead letter"),
    };
    dispatches.map(letter).collect()
}

#[test]
fn equal_consumers_take_turns_and_get_no_more_than_their_prefetch() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 2), (BOB, Auto, 2), (CAT, Client, 2)], 10);
    let first = deliveries(&mut queue, 0);
    let expect = [(1, 0, 1), (2, 1, 1), (3, 2, 1), (1, 3, 1), (2, 4, 1), (3, 5, 1)];
    assert_eq!(brief(&first), expect);
    assert_eq!((queue.depth(), queue.unacknowledged(), queue.len()), (4, 4, 8));

    assert_eq!(queue.ack(CAT, first[2].id), Ok(1));
    assert_eq!(queue.ack(ANN, first[3].id), Ok(2));
    assert_eq!(brief(&deliveries(&mut queue, 0)), [(3, 6, 1), (1, 7, 1), (1, 8, 1)], "whose room came first is first");
    assert_eq!((queue.depth(), queue.unacknowledged(), queue.bytes()), (1, 4, 50));
}

#[test]
fn a_round_gives_each_consumer_as_many_as_it_had_room_for() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Auto, 30), (BOB, Auto, 10)], 100_000);
    let mut counts = [0_u32; 3];
    for _ in 0..40_000 {
        let Some(Dispatch::Delivery(delivery)) = queue.poll_dispatch(0) else { panic!("there is always room") };
        queue.written(delivery.consumer, 1);
        counts[usize::try_from(delivery.consumer.0).expect("small")] += 1;
    }
    assert!((29_000..=31_000).contains(&counts[1]), "three of four: {counts:?}");

    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 1_000), (BOB, Client, 1)], 100);
    assert_eq!(brief(&deliveries(&mut queue, 0))[..3], [(1, 0, 1), (2, 1, 1), (1, 2, 1)], "nobody waits for a round");
}

#[test]
fn a_consumer_without_acknowledgements_has_a_window_too() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Auto, 3), (BOB, Client, 1)], 100);
    let first = deliveries(&mut queue, 0);
    assert_eq!(messages(&first), [0, 1, 2, 3]);
    let to_ann = first.iter().find(|delivery| delivery.consumer == ANN).expect("one of three");
    assert_eq!(queue.ack(ANN, to_ann.id), Err(AckError::Unknown), "it does not acknowledge");
    queue.written(ANN, 2);
    queue.written(BOB, 5);
    queue.written(CAT, 5);
    assert_eq!(brief(&deliveries(&mut queue, 0)), [(1, 4, 1), (1, 5, 1)]);
    queue.written(ANN, u32::MAX);
    assert_eq!(deliveries(&mut queue, 0).len(), 3, "never more than the prefetch");
    assert_eq!((queue.leave(ANN), queue.unacknowledged(), queue.depth()), (0, 1, 91), "at most once");
}

#[test]
fn the_prefetch_is_one_at_least_and_no_more_than_the_limit() {
    let limits = Limits { prefetch_max: 5, ..Limits::default() };
    for (prefetch, expect) in [(0, 1), (1, 1), (5, 5), (6, 5), (u32::MAX, 5)] {
        let mut queue = queue_of(limits, &[(ANN, Client, prefetch)], 10);
        assert_eq!(deliveries(&mut queue, 0).len(), expect, "asked for {prefetch}");
    }
}

#[test]
fn cumulative_acknowledgements_settle_what_came_before_on_that_subscription_only() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 10), (BOB, Client, 10)], 10);
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.ack(ANN, all[4].id), Ok(3), "of 0, 1, 2, 3, 4 every second one");
    assert_eq!(queue.unacknowledged(), 7);
    assert_eq!(queue.nack(BOB, all[3].id, Nack::Requeue), Ok(2), "its opposite has the same scope");
    assert_eq!(brief(&deliveries(&mut queue, 0)), [(1, 1, 2), (1, 3, 2)]);
}

#[test]
fn individual_acknowledgements_settle_one_message() {
    let mut queue = queue_of(Limits::default(), &[(ANN, ClientIndividual, 10)], 5);
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.ack(ANN, all[3].id), Ok(1));
    assert_eq!(queue.nack(ANN, all[1].id, Nack::Drop), Ok(1));
    assert_eq!((queue.unacknowledged(), queue.bytes()), (3, 30));
    assert_eq!(queue.leave(ANN), 3);
    assert_eq!(queue.subscribe(BOB, Auto, 10), Ok(()));
    assert_eq!(messages(&deliveries(&mut queue, 0)), [0, 2, 4]);
    let counters = queue.counters();
    assert_eq!((counters.delivered, counters.redelivered, counters.acknowledged, counters.dropped), (8, 3, 4, 1));
}

#[test]
fn an_acknowledgement_of_something_unknown_foreign_or_settled_changes_nothing() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 3), (BOB, ClientIndividual, 3)], 6);
    let all = deliveries(&mut queue, 0);
    let (anns, bobs) = (all[0].id, all[1].id);
    assert_eq!(queue.ack(ANN, anns), Ok(1));
    for _ in 0..2 {
        assert_eq!(queue.ack(ANN, anns), Err(AckError::Unknown), "twice");
        assert_eq!(queue.nack(ANN, anns, Nack::Requeue), Err(AckError::Unknown));
        assert_eq!(queue.ack(ANN, bobs), Err(AckError::Foreign));
        assert_eq!(queue.ack(CAT, bobs), Err(AckError::Foreign), "which is not even there");
        for bits in [0, 1, bobs.to_bits() + (1 << 40), bobs.to_bits() ^ 1, u64::MAX] {
            assert_eq!(queue.ack(BOB, DeliveryId::from_bits(bits)), Err(AckError::Unknown), "{bits:x}");
        }
        assert_eq!((queue.unacknowledged(), queue.bytes()), (5, 50));
    }
    assert_eq!(queue.nack(BOB, bobs, Nack::Requeue), Ok(1));
    assert_eq!(queue.ack(BOB, bobs), Err(AckError::Unknown), "it came back");
    let waits = DeliveryId::from_bits(bobs.to_bits() & u64::from(NO_PLACE));
    assert_eq!(queue.ack(BOB, waits), Err(AckError::Unknown), "not even by the mark of what waits");
    assert_eq!(queue.ack(BOB, DeliveryId::from_bits(bobs.to_bits())), Err(AckError::Unknown));
}

#[test]
fn serial_numbers_begin_again_without_the_mark_of_what_waits() {
    let mut queue = queue_of(Limits::default(), &[(ANN, ClientIndividual, 3)], 3);
    queue.serial = SERIAL_MAX - 1;
    let all = deliveries(&mut queue, 0);
    assert_eq!(all.iter().map(|delivery| delivery.id.serial()).collect::<Vec<_>>(), [SERIAL_MAX, 1, 2]);
    assert!(all.iter().all(|delivery| queue.ack(ANN, delivery.id) == Ok(1)));
}

#[test]
fn what_comes_back_from_several_consumers_is_in_its_first_order_again() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 3), (BOB, Client, 3), (CAT, Client, 3)], 12);
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.ack(BOB, all[1].id), Ok(1));
    assert_eq!(queue.leave(CAT), 3);
    assert_eq!(queue.unsubscribe(ANN), Ok(3));
    assert_eq!(queue.unsubscribe(ANN), Err(SubscribeError::Unknown));
    assert_eq!(queue.leave(ANN), 0);
    assert_eq!(queue.leave(BOB), 2);
    assert_eq!((queue.depth(), queue.unacknowledged()), (11, 0));
    assert_eq!(queue.subscribe(ANN, Client, 100), Ok(()), "the id may be used again");
    let again = deliveries(&mut queue, 0);
    assert_eq!(messages(&again), [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(again.iter().all(|delivery| delivery.redelivered() == (delivery.message < 9)));
    assert!(again.iter().all(|delivery| delivery.sequence == delivery.message));
}

#[test]
fn a_refused_message_goes_to_another_consumer_if_one_has_room() {
    for mode in [Client, ClientIndividual] {
        let mut queue = queue_of(Limits::default(), &[(ANN, mode, 1), (BOB, mode, 2)], 1);
        let mut delivery = deliveries(&mut queue, 0).remove(0);
        for _ in 0..10 {
            let refuser = delivery.consumer;
            assert_eq!(queue.nack(refuser, delivery.id, Nack::Requeue), Ok(1));
            delivery = deliveries(&mut queue, 0).remove(0);
            assert_ne!(delivery.consumer, refuser);
        }
        let other = if delivery.consumer == ANN { BOB } else { ANN };
        assert_eq!(queue.leave(other), 0);
        assert_eq!(queue.nack(delivery.consumer, delivery.id, Nack::Requeue), Ok(1));
        assert_eq!(deliveries(&mut queue, 0)[0].consumer, delivery.consumer, "there is nobody else");
    }
}

#[test]
fn a_message_that_is_refused_again_and_again_becomes_a_dead_letter() {
    let limits = Limits { deliveries_max: 3, ..Limits::default() };
    let mut queue = queue_of(limits, &[(ANN, Client, 1)], 2);
    for count in 1..=3 {
        let delivery = deliveries(&mut queue, 0).remove(0);
        assert_eq!((delivery.message, delivery.delivery_count), (0, count));
        assert_eq!(queue.nack(ANN, delivery.id, Nack::Requeue), Ok(1));
    }
    assert_eq!((queue.len(), queue.depth(), queue.bytes()), (2, 1, 20), "it counts until it is handed out");
    let Some(Dispatch::DeadLetter(letter)) = queue.poll_dispatch(0) else { panic!("dead letters are first") };
    assert_eq!(letter, DeadLetter { message: 0, sequence: 0, delivery_count: 3, cause: Cause::Deliveries });
    assert_eq!(messages(&deliveries(&mut queue, 0)), [1], "those behind it go on");
    assert_eq!((queue.bytes(), queue.counters().dead), (10, 1));
}

#[test]
fn a_message_on_which_consumers_crash_becomes_a_dead_letter() {
    let limits = Limits { deliveries_max: 5, ..Limits::default() };
    let mut queue = queue_of(limits, &[], 1);
    for _ in 0..5 {
        assert_eq!(queue.subscribe(ANN, Client, 10), Ok(()));
        assert_eq!(deliveries(&mut queue, 0).len(), 1);
        assert_eq!(queue.leave(ANN), 1);
    }
    assert_eq!(dead_letters(&mut queue, 0), [(0, 5, Cause::Deliveries)]);
    assert!(queue.is_empty());
}

#[test]
fn a_consumer_may_reject_a_message_for_good() {
    let mut queue = queue_of(Limits::default(), &[(ANN, Client, 10)], 4);
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.nack(ANN, all[1].id, Nack::DeadLetter), Ok(2));
    assert_eq!(dead_letters(&mut queue, 0), [(0, 1, Cause::Rejected), (1, 1, Cause::Rejected)]);
    assert_eq!(queue.nack(ANN, all[3].id, Nack::Drop), Ok(2));
    assert_eq!(dead_letters(&mut queue, 0), []);
    let counters = queue.counters();
    assert_eq!((counters.dead, counters.dropped, queue.len(), queue.bytes()), (2, 2, 0, 0));
}

#[test]
fn a_consumer_that_never_acknowledges_gets_its_prefetch_and_is_removed_in_the_end() {
    let limits = Limits { acknowledge_ms_max: 1_000, ..Limits::default() };
    let mut queue = queue_of(limits, &[(ANN, Client, 3), (BOB, Client, 1)], 10);
    let first = deliveries(&mut queue, 0);
    assert_eq!(messages(&first), [0, 1, 2, 3]);
    assert_eq!(queue.ack(BOB, first[1].id), Ok(1));
    assert_eq!(brief(&deliveries(&mut queue, 500)), [(2, 4, 1)]);
    assert_eq!(queue.poll_timeout(), Some(1_000));
    assert_eq!(queue.poll_dispatch(999), None);
    assert_eq!(queue.poll_dispatch(1_000), Some(Dispatch::Overdue(ANN)));
    assert_eq!((queue.consumer_count(), queue.depth(), queue.unacknowledged()), (1, 8, 1));
    assert_eq!(queue.ack(ANN, first[0].id), Err(AckError::Unknown));
    assert_eq!(queue.leave(ANN), 0);
    assert_eq!(deliveries(&mut queue, 1_000), [], "one that was given something later is not overdue");
    assert_eq!(queue.poll_timeout(), Some(2_000), "but is looked at again");
    assert_eq!(queue.poll_dispatch(2_000), Some(Dispatch::Overdue(BOB)));
    assert_eq!((queue.poll_dispatch(5_000), queue.depth(), queue.counters().overdue), (None, 9, 2));
}

#[test]
fn a_consumer_that_acknowledges_in_time_stays() {
    let limits = Limits { acknowledge_ms_max: 1_000, ..Limits::default() };
    let mut queue = queue_of(limits, &[(ANN, Client, 3)], 270);
    for turn in 0..90 {
        let delivery = deliveries(&mut queue, turn * 999).last().expect("there is room for one").id;
        assert!(queue.ack(ANN, delivery).is_ok(), "turn {turn}");
    }
    assert_eq!((queue.consumer_count(), queue.counters().overdue), (1, 0));
    assert_eq!(queue.poll_dispatch(1_000_000_000), None, "nor is one that has nothing to acknowledge");
}

#[test]
fn a_full_queue_refuses_and_says_so() {
    let limits = Limits { messages_max: 3, bytes_max: 100, ..Limits::default() };
    let mut queue = queue_of(limits, &[], 3);
    assert_eq!(queue.push(3, 0, 0), Err(PushError::Full), "by messages");
    assert_eq!(queue.subscribe(ANN, Client, 2), Ok(()));
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.push(3, 1, 0), Err(PushError::Full), "what is not acknowledged counts");
    assert_eq!(queue.ack(ANN, all[0].id), Ok(1));
    assert_eq!(queue.push(3, 81, 0), Err(PushError::Full), "by bytes");
    assert_eq!(queue.push(3, 101, 0), Err(PushError::TooLarge));
    assert_eq!(queue.push(3, usize::MAX, 0), Err(PushError::TooLarge));
    assert!(queue.has_room(1, 80) && !queue.has_room(2, 0) && !queue.has_room(0, 81));
    assert_eq!(queue.push(3, 80, 0), Ok(()));
    assert_eq!((queue.counters().accepted, queue.counters().refused, queue.bytes()), (4, 5, 100));
}

#[test]
fn the_oldest_that_wait_are_dropped_for_new_ones_if_so_asked() {
    let limits = Limits { messages_max: 4, bytes_max: 50, overflow: Overflow::DropOldest, ..Limits::default() };
    let mut queue = queue_of(limits, &[(ANN, Client, 2)], 4);
    let all = deliveries(&mut queue, 0);
    assert_eq!(queue.push(4, 10, 0), Ok(()));
    assert_eq!(queue.push(5, 31, 0), Err(PushError::Full), "consumers have twenty bytes");
    assert_eq!(queue.push(5, 51, 0), Err(PushError::TooLarge));
    assert_eq!((queue.depth(), queue.counters().dropped), (2, 1), "nothing is dropped in vain");
    assert_eq!(queue.push(5, 30, 0), Ok(()));
    assert_eq!((queue.depth(), queue.bytes(), queue.counters().dropped), (1, 50, 3));
    assert_eq!(queue.nack(ANN, all[0].id, Nack::Requeue), Ok(1));
    assert_eq!(queue.push(6, 10, 0), Ok(()), "what came back is the oldest");
    assert_eq!(queue.ack(ANN, all[1].id), Ok(1));
    assert_eq!(messages(&deliveries(&mut queue, 0)), [5, 6]);
}

#[test]
fn old_messages_are_handed_out_as_dead_letters_one_by_one() {
    let limits = Limits { age_ms_max: 1_000, ..Limits::default() };
    let mut queue = queue_of(limits, &[], 2);
    assert_eq!(queue.push(2, 10, 500), Ok(()));
    assert_eq!(queue.poll_timeout(), Some(1_000));
    assert_eq!(queue.poll_dispatch(999), None);
    assert_eq!(dead_letters(&mut queue, 1_000), [(0, 0, Cause::Age), (1, 0, Cause::Age)]);
    assert_eq!(queue.poll_timeout(), Some(1_500));
    assert_eq!(queue.subscribe(ANN, Client, 10), Ok(()));
    assert_eq!(messages(&deliveries(&mut queue, 1_499)), [2], "in time");
    assert_eq!(queue.leave(ANN), 1);
    assert_eq!(dead_letters(&mut queue, 1_500), [(2, 1, Cause::Age)], "age goes on while a consumer has it");
    assert_eq!((queue.counters().expired, queue.counters().dead, queue.bytes()), (3, 0, 0));
    assert_eq!(queue.poll_timeout(), None);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let limits = Limits { age_ms_max: 1_000, acknowledge_ms_max: 1_000, ..Limits::default() };
    let mut queue = queue_of(limits, &[], 0);
    assert_eq!(queue.push(0, 1, 5_000), Ok(()));
    assert_eq!(queue.push(1, 1, 10), Ok(()));
    assert_eq!((queue.poll_dispatch(5_500), queue.poll_timeout()), (None, Some(6_000)));
    assert_eq!(queue.subscribe(ANN, Client, 10), Ok(()));
    assert_eq!(deliveries(&mut queue, 0).len(), 2);
    assert_eq!(queue.poll_timeout(), Some(6_500));
}

#[test]
fn limits_without_an_end_never_come() {
    let limits = Limits { age_ms_max: u64::MAX, acknowledge_ms_max: u64::MAX, ..Limits::default() };
    let mut queue = queue_of(limits, &[(ANN, Client, 1)], 2);
    assert_eq!(deliveries(&mut queue, 7).len(), 1);
    assert_eq!((queue.poll_timeout(), queue.poll_dispatch(u64::MAX - 1)), (None, None));
}

#[test]
fn a_flood_of_subscriptions_stops_at_the_limit_and_leaves_no_memory_behind() {
    let mut queue = Queue::<u64>::new(Limits { consumers_max: 1_000, ..Limits::default() });
    let added = (0..100_000).filter(|&id| queue.subscribe(ConsumerId(id), Client, 1).is_ok()).count();
    assert_eq!((added, queue.consumer_count()), (1_000, 1_000));
    assert_eq!(queue.subscribe(ConsumerId(5), Auto, 1), Err(SubscribeError::Duplicate));
    assert_eq!(queue.subscribe(ConsumerId(1_000), Auto, 1), Err(SubscribeError::TooMany));
    let full_bytes = queue.memory_bytes();
    assert_eq!((0..1_000).map(|id| queue.leave(ConsumerId(id))).sum::<usize>(), 0);
    assert!(queue.memory_bytes() < full_bytes / 8, "{} of {full_bytes} bytes", queue.memory_bytes());
    queue.trim();
    assert_eq!(queue.memory_bytes(), 0);
}

#[test]
fn memory_follows_what_is_in_use() {
    let mut queue = queue_of(Limits::default(), &[], 100_000);
    assert!(queue.memory_bytes() <= 2 * 100_000 * 24);
    assert_eq!(queue.subscribe(ANN, Client, 1_024), Ok(()));
    let mut messages_seen = 0;
    for _ in 0..90 {
        let last = deliveries(&mut queue, 0).last().expect("there are more").id;
        messages_seen += queue.ack(ANN, last).expect("it was delivered");
    }
    assert_eq!((messages_seen, queue.depth()), (92_160, 7_840));
    assert!(queue.memory_bytes() < 5 * 8_192 * 24, "{} bytes", queue.memory_bytes());
    assert_eq!(deliveries(&mut queue, 0).len(), 1_024);
    assert_eq!(queue.leave(ANN), 1_024);
    assert_eq!(queue.subscribe(BOB, Auto, 1_000), Ok(()));
    while !queue.is_empty() {
        let count = deliveries(&mut queue, 0).len();
        queue.written(BOB, u32::try_from(count).expect("no more than the prefetch"));
    }
    // What little there is left is for some messages of each kind, and a consumer.
    assert!(queue.memory_bytes() < 16_384, "{} bytes", queue.memory_bytes());
    assert_eq!(queue.leave(BOB), 0);
    queue.trim();
    assert_eq!((queue.memory_bytes(), queue.bytes()), (0, 0));
}

#[test]
fn messages_need_no_escaping_in_any_version() {
    let push = [PushError::Full, PushError::TooLarge].map(PushError::message);
    let subscribe = [SubscribeError::Duplicate, SubscribeError::TooMany, SubscribeError::Unknown];
    let ack = [AckError::Unknown, AckError::Foreign].map(AckError::message);
    for message in push.into_iter().chain(subscribe.map(SubscribeError::message)).chain(ack) {
        assert!(message.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b' ')), "{message}");
    }
}
