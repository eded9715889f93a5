//! How much memory a session holds for what has arrived, and for what was only announced.

use super::super::*;
use super::feeding::{Feed, announced, feed, feed_straight, frame, held_bytes, limits};

#[test]
fn a_message_in_pieces_owns_a_block_until_it_is_given_back() {
    let (mut session, mut pool) = (Session::new(Role::Server, Limits::default()), Pool::default());
    let mut bytes = frame(0x81, b"Hello");
    let (mut head, mut tail) = bytes.split_at_mut(8);
    assert!(matches!(session.receive(&mut head, &mut pool), Ok(None)));
    let event = session.receive(&mut tail, &mut pool).expect("a good frame").expect("its end has arrived");
    assert!(
        matches!(&event, Event::Message(Message { payload: Payload::Block(block), .. }) if block.as_slice() == b"Hello")
    );
    assert!(session.is_at_rest());
    assert_eq!(pool.lent(), 1);
    event.give_back(&mut pool);
    assert_eq!(pool.lent(), 0);
}

#[test]
fn an_announced_length_takes_no_memory() {
    let announced_then_one_byte = |len: usize, max: usize| {
        let (mut session, mut pool) = (Session::new(Role::Server, limits(max)), Pool::default());
        let free = pool.take(len.min(64 << 10));
        pool.give(free);
        assert_eq!(feed(&mut session, &[&announced(0x82, len)[..], b"x"].concat(), &mut pool), []);
        assert_eq!(pool.lent(), 1);
        held_bytes(session, &mut pool)
    };
    assert_eq!(announced_then_one_byte(60 << 10, 64 << 10), 1024 + 64);
    assert_eq!(announced_then_one_byte(1 << 62, usize::MAX), 1024 + 64);
}

#[test]
fn a_message_in_small_pieces_at_most_doubles_what_has_arrived() {
    let payload = vec![b'x'; 200_000];
    let one_frame = frame(0x82, &payload);
    let mut fragments = frame(0x01, b"");
    payload.chunks(250).for_each(|piece| fragments.extend(frame(0x00, piece)));
    // What is received straight has room for a page more.
    for (feed, page) in [(feed as Feed, 0), (feed_straight, 4 << 10)] {
        for input in [&one_frame, &fragments] {
            for piece_len in [1, 100, 1_024, 1_460, 5_000] {
                for (arrived, capacity) in blocks_taken(&input[..input.len() - 1], piece_len, feed) {
                    // A block has room for a frame header besides.
                    let allowed = (2 * (arrived + page)).max(16 << 10) + 64;
                    assert!(capacity <= allowed, "{capacity} for {arrived} bytes in pieces of {piece_len}");
                }
            }
        }
    }
}

/// Each block that a message in pieces took: the bytes that had arrived then, and its capacity.
fn blocks_taken(input: &[u8], piece_len: usize, feed: Feed) -> Vec<(usize, usize)> {
    let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
    let (mut blocks, mut arrived, mut taken_at) = (Vec::new(), 0, 0);
    for piece in input.chunks(piece_len) {
        let before = pool.retained_bytes();
        assert_eq!(feed(&mut session, piece, &mut pool), []);
        arrived += piece.len();
        // A message that moves to a larger block gives the former one back.
        if pool.retained_bytes() != before {
            blocks.push((taken_at, pool.retained_bytes() - before));
            taken_at = arrived;
        }
    }
    blocks.push((taken_at, held_bytes(session, &mut pool)));
    blocks
}

#[test]
fn free_blocks_are_not_pinned_by_what_is_only_announced() {
    let mut pool = Pool::new(256 << 20);
    let mut sessions = Vec::new();
    for _ in 0..100 {
        let mut busy = Session::new(Role::Server, Limits::default());
        frame(0x82, &[1; 60 << 10]).chunks(16 << 10).for_each(|piece| drop(feed(&mut busy, piece, &mut pool)));
        let mut idle = Session::new(Role::Server, Limits::default());
        assert_eq!(feed(&mut idle, &frame(0x82, &[1; 60 << 10])[..1_100], &mut pool), []);
        sessions.push(idle);
    }
    let held: usize = sessions.into_iter().map(|session| held_bytes(session, &mut pool)).sum();
    assert!(held <= 100 * ((16 << 10) + 64), "{held} bytes for 110,000 that arrived");
}

#[test]
fn room_at_once_is_for_messages_as_long_as_the_peer_is_trusted_with() {
    let room = |trusted: usize| {
        let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
        assert_eq!(feed(&mut session, &[&announced(0x82, 500_000)[..], b"x"].concat(), &mut pool), []);
        let block = session.lend(trusted, &mut pool).expect("a frame is under way");
        let room = block.capacity() - block.len();
        assert!(matches!(session.restore(block, 0, &mut pool), Ok(None)));
        session.end(&mut pool);
        assert_eq!(pool.lent(), 0);
        room
    };
    assert!(room(500_000) >= 499_999, "as many were sent before");
    for trusted in [0, 1, 499_999] {
        let room = room(trusted);
        assert!((4096..=(16 << 10) + 64).contains(&room), "{room} bytes of room for one that arrived");
    }
}

#[test]
fn a_block_that_comes_back_after_the_end_goes_to_the_pool() {
    let (mut session, mut pool) = (Session::new(Role::Server, limits(1 << 20)), Pool::default());
    assert_eq!(feed(&mut session, &[&announced(0x82, 500_000)[..], b"x"].concat(), &mut pool), []);
    let mut block = session.lend(0, &mut pool).expect("a frame is under way");
    session.end(&mut pool);
    assert_eq!(pool.lent(), 1, "it is still lent");
    block.extend_from_slice(b"late");
    assert!(matches!(session.restore(block, 4, &mut pool), Ok(None)));
    assert_eq!(pool.lent(), 0);
}
