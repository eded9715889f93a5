//! Who is subscribed to which topics, and who gets what is sent to one.

use std::num::NonZeroU32;

use super::destination::{Name, Pattern, Pieces, STAR_SEGMENTS_MAX};
use super::nodes::{Node, Nodes};
use super::seats::Seat;
use super::slots::Slots;

/// The root of the tree of patterns: the first node of all, which is there always.
const ROOT: u32 = 0;
/// The parent of topics, which are not in the tree: a name is found as a whole.
const TOPIC: u32 = u32::MAX;

/// The topic subscriptions of one worker; `S` is what is known of a subscriber.
///
/// A match looks the name up once, which finds the subscriptions without wildcards, and then walks
/// the tree of patterns with wildcards, if there are any. From a node it goes on to the child that
/// is the next segment and to that which is a `*`. Only the first [`STAR_SEGMENTS_MAX`] segments of
/// a pattern may be a `*`, so there are never more than 2⁸ branches, whatever the patterns are: at
/// most 6,655 nodes for a name of 32 segments. Branches are nodes of patterns which begin as the name
/// does, so there are never more of them than patterns either.
///
/// A subscription is visited once for each message that matches it. Those without wildcards come
/// first. Those of one pattern come together, in the order in which they were made, except that
/// the last of them takes the place of one that goes. Between two changes the order stays.
///
/// ```
/// use ringsock::broker::{Name, Pattern, Topics};
///
/// let mut topics = Topics::default();
/// let all = topics.subscribe(Pattern::new("price.#")?, 'a');
/// let gold = topics.subscribe(Pattern::new("price.gold")?, 'b');
/// let mut reached = Vec::new();
/// topics.for_each_match(Name::new("price.gold")?, |subscriber| reached.push(subscriber));
/// assert_eq!(reached, ['b', 'a']);
/// topics.unsubscribe(all);
/// topics.unsubscribe(gold);
/// assert!(topics.is_empty());
/// # Ok::<(), ringsock::broker::DestinationError>(())
/// ```
#[derive(Debug)]
pub struct Topics<S> {
    nodes: Nodes<S>,
    /// Where each subscription is.
    places: Slots<Place>,
    /// The memory of all nodes' seats.
    seats_bytes: usize,
}

/// A subscription that was made, and can be ended once.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "it is the only way to end the subscription"]
pub struct Subscription(u32);

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Never the root.
    node: NonZeroU32,
    position: u32,
}

const _: () = assert!(Slots::<Place>::ENTRY_LEN == 8, "each subscription has one");

impl<S: Copy> Topics<S> {
    /// Adds a subscription, also where the subscriber has one with the same pattern.
    pub fn subscribe(&mut self, pattern: Pattern<'_>, subscriber: S) -> Subscription {
        let node = if pattern.has_wildcard() {
            let pieces = pattern.pieces();
            (0..).map_while(|index| pieces.get(index)).fold(ROOT, |node, piece| self.child(node, canonical(piece)))
        } else {
            self.child(TOPIC, pattern.as_str())
        };
        // The position is not known yet.
        let place = Place { node: NonZeroU32::new(node).expect("the root is no pattern"), position: 0 };
        let subscription = self.places.insert(place);
        let seats = &mut self.nodes.get_mut(node).seats;
        let bytes = seats.memory_bytes();
        self.places.get_mut(subscription).position = seats.push(Seat { subscriber, subscription });
        self.seats_bytes += seats.memory_bytes();
        self.seats_bytes -= bytes;
        Subscription(subscription)
    }

    /// Ends a subscription of this table.
    ///
    /// # Panics
    ///
    /// Perhaps, if the subscription is of another table; or another one of this table ends.
    pub fn unsubscribe(&mut self, Subscription(subscription): Subscription) {
        let Place { node, position } = self.places.remove(subscription);
        let seats = &mut self.nodes.get_mut(node.get()).seats;
        let bytes = seats.memory_bytes();
        let moved = seats.remove(position);
        self.seats_bytes += seats.memory_bytes();
        self.seats_bytes -= bytes;
        if let Some(moved) = moved {
            self.places.get_mut(moved.subscription).position = position;
        }
        self.remove_unused(node.get());
    }

    /// Calls `visit` with the subscriber of each subscription that `name` matches.
    #[inline]
    pub fn for_each_match(&self, name: Name<'_>, mut visit: impl FnMut(S)) {
        if let Some(node) = self.nodes.find(TOPIC, name.as_str()) {
            self.nodes.get(node).seats.for_each(&mut visit);
        }
        if !self.nodes.get(ROOT).family.is_empty() {
            self.for_each_in_tree(&name.pieces(), &mut visit);
        }
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that the table has allocated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes() + self.places.memory_bytes() + self.seats_bytes
    }

    /// Follows the next segment first and puts the branch that begins with a `*` off. Branches that
    /// wait begin at different depths, so there are never more than depths where a `*` may be.
    fn for_each_in_tree(&self, pieces: &Pieces<'_>, visit: &mut impl FnMut(S)) {
        let mut waiting = [(ROOT, 0); STAR_SEGMENTS_MAX];
        let mut waiting_count = 1;
        while waiting_count > 0 {
            waiting_count -= 1;
            let (mut node, mut depth) = waiting[waiting_count];
            loop {
                let family = self.nodes.get(node).family;
                let Some(piece) = pieces.get(depth) else {
                    self.nodes.get(node).seats.for_each(visit);
                    // Nothing is left, and the rest may be nothing.
                    self.for_each_rest(node, ".#", visit);
                    self.for_each_rest(node, "/#", visit);
                    break;
                };
                let [star, rest] = wildcards_for(piece);
                self.for_each_rest(node, rest, visit);
                depth += 1;
                if family.has(star)
                    && let Some(child) = self.nodes.find(node, star)
                {
                    waiting[waiting_count] = (child, depth);
                    waiting_count += 1;
                }
                let child = if family.has_literal() { self.nodes.find(node, piece) } else { None };
                let Some(child) = child else { break };
                node = child;
            }
        }
    }

    fn for_each_rest(&self, node: u32, rest: &str, visit: &mut impl FnMut(S)) {
        if self.nodes.get(node).family.has(rest)
            && let Some(child) = self.nodes.find(node, rest)
        {
            self.nodes.get(child).seats.for_each(visit);
        }
    }

    /// The child of `parent` called `text`, a new one if there was none.
    fn child(&mut self, parent: u32, text: &str) -> u32 {
        if let Some(child) = self.nodes.find(parent, text) {
            return child;
        }
        if parent != TOPIC {
            self.nodes.get_mut(parent).family.add(text.as_bytes());
        }
        self.nodes.insert(parent, text)
    }

    /// Removes `node` if it has neither seats nor children, and then its parents likewise.
    fn remove_unused(&mut self, mut node: u32) {
        while node != ROOT && node != TOPIC {
            let Node { seats, family, .. } = self.nodes.get(node);
            if !seats.is_empty() || !family.is_empty() {
                return;
            }
            let (parent, text) = self.nodes.remove(node);
            if parent != TOPIC {
                self.nodes.get_mut(parent).family.take(text.as_bytes());
            }
            node = parent;
        }
    }
}

impl<S: Copy> Default for Topics<S> {
    fn default() -> Self {
        let mut nodes = Nodes::default();
        let root = nodes.insert(TOPIC, "");
        assert_eq!(root, ROOT, "the first node of all");
        Self { nodes, places: Slots::default(), seats_bytes: 0 }
    }
}

/// The `*` and the `#` that stand for a piece with the separator of `piece`.
fn wildcards_for(piece: &str) -> [&'static str; 2] {
    match piece.as_bytes()[0] {
        b'.' => [".*", ".#"],
        b'/' => ["/*", "/#"],
        _ => ["*", "#"],
    }
}

/// The one name that a wildcard has in the tree.
fn canonical(piece: &str) -> &str {
    if piece.ends_with('>') { wildcards_for(piece)[1] } else { piece }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::DestinationError;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    fn subscribe(topics: &mut Topics<u32>, pattern: &str, subscriber: u32) -> Subscription {
        topics.subscribe(Pattern::new(pattern).expect("valid"), subscriber)
    }

    /// The subscribers that a message to `name` reaches, as they come.
    fn reached(topics: &Topics<u32>, name: &str) -> Vec<u32> {
        let mut subscribers = Vec::new();
        topics.for_each_match(Name::new(name).expect("valid"), |subscriber| subscribers.push(subscriber));
        subscribers
    }

    /// How many nodes were looked for on the way to those whom a message to `name` reaches.
    fn searches(topics: &Topics<u32>, name: &str) -> usize {
        topics.nodes.searches.set(0);
        topics.for_each_match(Name::new(name).expect("valid"), |_| {});
        topics.nodes.searches.get()
    }

    /// The same rules once more, without any table.
    fn matches(pattern: &str, name: &str) -> bool {
        let Some(rest) = pattern.strip_suffix(['#', '>']) else { return matches_stars(pattern, name) };
        let Some(separator) = rest.chars().next_back() else { return true };
        let before = &rest[..rest.len() - 1];
        let cuts = name.match_indices(separator).map(|(cut, _)| cut).chain([name.len()]);
        cuts.into_iter().any(|cut| matches_stars(before, &name[..cut]))
    }

    fn matches_stars(pattern: &str, name: &str) -> bool {
        match (pattern.chars().next(), name.chars().next()) {
            (None, None) => true,
            (Some('*'), Some(_)) => {
                let segment_len = name.find(['.', '/']).unwrap_or(name.len());
                segment_len > 0 && matches_stars(&pattern[1..], &name[segment_len..])
            }
            (Some(a), Some(b)) => a == b && matches_stars(&pattern[a.len_utf8()..], &name[b.len_utf8()..]),
            _ => false,
        }
    }

    /// Both matchers, for patterns one at a time.
    #[track_caller]
    fn check(pattern: &str, names: &[&str], expect: bool) {
        let mut topics = Topics::default();
        let subscription = subscribe(&mut topics, pattern, 7);
        for name in names {
            assert_eq!(reached(&topics, name), [7].repeat(usize::from(expect)), "{pattern} on {name}");
            assert_eq!(matches(pattern, name), expect, "{pattern} on {name}, naive");
        }
        topics.unsubscribe(subscription);
        assert!(names.iter().all(|name| reached(&topics, name).is_empty()));
    }

    #[test]
    fn a_pattern_without_wildcards_is_one_name() {
        check("a.b", &["a.b"], true);
        check("a.b", &["a/b", "a", "b", "a.b.c", "a.bb", "A.b"], false);
    }

    #[test]
    fn a_star_is_one_segment_between_separators_as_written() {
        check("*", &["a", "\u{e9}t\u{e9}"], true);
        check("*", &["a.b", "a/b"], false);
        check("a.*", &["a.b", "a.bcd"], true);
        check("a.*", &["a", "a/b", "a.b.c", "a.b/c", "b.b"], false);
        check("*/b", &["a/b", "b/b"], true);
        check("*/b", &["a.b", "b", "a/c", "a/a/b"], false);
        check("a.*/c", &["a.b/c"], true);
        check("a.*/c", &["a.b.c", "a/b/c", "a.b"], false);
    }

    #[test]
    fn the_rest_is_any_number_of_segments_and_none() {
        for rest in ["#", ">"] {
            check(rest, &["a", "a.b", "a/b.c"], true);
            check(&format!("a.{rest}"), &["a", "a.b", "a.b.c", "a.b/c"], true);
            check(&format!("a.{rest}"), &["b", "ab", "a/b", "b.a", "aa.b"], false);
            check(&format!("a/*.{rest}"), &["a/b", "a/b.c", "a/c.d/e"], true);
            check(&format!("a/*.{rest}"), &["a", "a.b", "a/b/c"], false);
        }
    }

    #[test]
    fn each_subscription_is_reached_once_exact_ones_first() {
        let mut topics = Topics::default();
        let patterns = ["a.#", "a.b", "a.>", "*.b", "a.b", "#", "a.*", "*.*", "a/b", "a.b.c"];
        let mut subscriptions: Vec<Subscription> =
            patterns.iter().zip(0..).map(|(pattern, subscriber)| subscribe(&mut topics, pattern, subscriber)).collect();
        assert_eq!(reached(&topics, "a.b"), [1, 4, 5, 0, 2, 6, 3, 7]);
        // The last of a pattern takes the place of one that goes.
        topics.unsubscribe(subscriptions.remove(0));
        assert_eq!(reached(&topics, "a.b"), [1, 4, 5, 2, 6, 3, 7]);
        assert_eq!(topics.len(), 9);
        subscriptions.into_iter().for_each(|subscription| topics.unsubscribe(subscription));
        assert_eq!((topics.len(), reached(&topics, "a.b")), (0, vec![]));
    }

    /// All 256 patterns of `name` whose first eight segments are as they are or a `*`.
    fn all_branches(name: &str) -> impl Iterator<Item = String> {
        (0..1 << 8).map(move |stars: u32| {
            let segments = name.split('.').enumerate();
            let segments =
                segments.map(|(index, segment)| if index < 8 && stars >> index & 1 == 1 { "*" } else { segment });
            segments.collect::<Vec<_>>().join(".")
        })
    }

    #[test]
    fn the_worst_patterns_cost_what_the_bound_says() {
        let name = ["abcdefg"; 32].join(".");
        let mut topics = Topics::default();
        let mut subscriptions = Vec::new();
        // A third of them end beside the name, a third with it, and a third with the rest.
        for (subscriber, ending) in (0..).zip([".x", "", ".#"]) {
            let stem = &name[..name.len() - ending.len() / 2 * 8];
            subscriptions.extend(all_branches(stem).map(|stem| {
                let pattern = format!("{stem}{ending}");
                subscribe(&mut topics, &pattern, subscriber)
            }));
        }
        assert_eq!(reached(&topics, &name).len(), 512);
        // One for the whole name and one for each `#`. Of the 6,655 nodes the root is not looked for,
        // nor is the last of the pattern without a star, which is not in the tree.
        let worst = 1 + 256 + 6_655 - 2;
        assert_eq!(searches(&topics, &name), worst);
        // Other subscriptions do not add to it.
        let mut other = name.clone();
        other.replace_range(..1, "b");
        subscriptions.extend(all_branches(&other).map(|pattern| subscribe(&mut topics, &pattern, 9)));
        assert_eq!(searches(&topics, &name), worst);
        subscriptions.into_iter().for_each(|subscription| topics.unsubscribe(subscription));
        assert!(topics.memory_bytes() <= Topics::<u32>::default().memory_bytes());
    }

    #[test]
    fn a_name_costs_one_search_without_wildcards_and_few_with_ten_thousand() {
        let mut topics = Topics::default();
        let _first = subscribe(&mut topics, "device.7.state", 0);
        assert_eq!(searches(&topics, "device.7.state"), 1);
        for device in 0..10_000 {
            let _ = subscribe(&mut topics, &format!("device.{device}.*"), device);
        }
        assert_eq!(reached(&topics, "device.7.state"), [0, 7]);
        assert_eq!(searches(&topics, "device.7.state"), 4);
        assert_eq!(searches(&topics, "other.7.state"), 2);
    }

    #[test]
    fn what_is_refused_is_refused_before_it_costs_anything() {
        assert_eq!(Pattern::new(&"*.".repeat(2_048)).err(), Some(DestinationError::TooLong));
        assert_eq!(Pattern::new(&["*"; 32].join(".")).err(), Some(DestinationError::DeepStar));
        assert_eq!(Pattern::new("(a+)+$.**").err(), Some(DestinationError::PartialWildcard));
    }

    #[test]
    fn long_unique_patterns_by_the_thousand_leave_nothing_behind() {
        let mut topics = Topics::default();
        let before = topics.memory_bytes();
        for round in 0..3 {
            let subscriptions: Vec<Subscription> = (0..10_000)
                .map(|number| {
                    let stem = format!("{round}.{number}.{}", ["x"; 29].join("."));
                    let ending = [".*", ".#", ".y"][number as usize % 3];
                    // Stars are not for the last segments.
                    let pattern = if ending == ".*" { format!("{round}.*.{number}") } else { stem + ending };
                    subscribe(&mut topics, &pattern, number)
                })
                .collect();
            assert!(topics.memory_bytes() > before + 5_000_000);
            assert_eq!(reached(&topics, &format!("{round}.1.{}", ["x"; 29].join("."))), [1]);
            subscriptions.into_iter().for_each(|subscription| topics.unsubscribe(subscription));
            assert!(topics.memory_bytes() <= before, "{} from {before}", topics.memory_bytes());
        }
    }

    fn a_text(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
        let piece = (select(&[".", "/"][..]), select(segments));
        (select(segments), vec(piece, 0..6)).prop_map(|(first, pieces)| {
            let pieces = pieces.into_iter().map(|(separator, segment)| format!("{separator}{segment}"));
            first.to_owned() + &pieces.collect::<String>()
        })
    }

    fn a_name() -> impl Strategy<Value = String> {
        a_text(&["a", "b", "bb", "\u{e9}"])
    }

    fn a_pattern() -> impl Strategy<Value = String> {
        let ending = select(&["", "", ".#", "/#", ".>", "/>"][..]);
        let stemmed = (a_text(&["a", "b", "bb", "\u{e9}", "*", "*"]), ending).prop_map(|(stem, ending)| stem + ending);
        prop_oneof![9 => stemmed, 1 => select(&["#", ">"][..]).prop_map(str::to_owned)]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(String),
        Unsubscribe(Index),
        Send(String),
    }

    fn a_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => a_pattern().prop_map(Step::Subscribe),
            2 => any::<Index>().prop_map(Step::Unsubscribe),
            3 => a_name().prop_map(Step::Send),
        ]
    }

    proptest! {
        #[test]
        fn any_pattern_gets_what_the_naive_matcher_says(pattern in a_pattern(), names in vec(a_name(), 1..8)) {
            let mut topics = Topics::default();
            let _subscription = subscribe(&mut topics, &pattern, 7);
            for name in names {
                prop_assert_eq!(!reached(&topics, &name).is_empty(), matches(&pattern, &name), "{} on {}", pattern, name);
            }
        }

        #[test]
        fn any_history_reaches_whom_the_naive_matcher_says(steps in vec(a_step(), 1..200)) {
            let (mut topics, mut model) = (Topics::default(), Vec::new());
            for (step, number) in steps.into_iter().zip(0..) {
                match step {
                    Step::Subscribe(pattern) => {
                        let subscription = subscribe(&mut topics, &pattern, number);
                        model.push((pattern, number, subscription));
                    }
                    Step::Unsubscribe(index) if !model.is_empty() => {
                        topics.unsubscribe(model.swap_remove(index.index(model.len())).2);
                    }
                    Step::Unsubscribe(_) => {}
                    Step::Send(name) => {
                        let mut reached = reached(&topics, &name);
                        reached.sort_unstable();
                        let expect = model.iter().filter(|(pattern, ..)| matches(pattern, &name));
                        let mut expect: Vec<u32> = expect.map(|&(_, subscriber, _)| subscriber).collect();
                        expect.sort_unstable();
                        prop_assert_eq!(reached, expect, "{}", name);
                    }
                }
                prop_assert_eq!(topics.len(), model.len());
            }
            model.into_iter().for_each(|(_, _, subscription)| topics.unsubscribe(subscription));
            prop_assert!(topics.memory_bytes() <= Topics::<u32>::default().memory_bytes());
        }

        #[test]
        fn any_text_is_checked_without_panic(text in ".{0,80}", separators in "[a./*#>]{0,80}") {
            for text in [text, format!("/topic/{separators}"), separators] {
                let _ = crate::broker::Destination::of_send(&text);
                if let Ok(pattern) = Pattern::new(&text) {
                    let mut topics = Topics::default();
                    let subscription = topics.subscribe(pattern, 1);
                    topics.unsubscribe(subscription);
                }
            }
        }
    }
}
