//! How many connections the rings of a server can hold, which limit binds, and what raises it.

use std::fmt;

use crate::sys::supply::{Group, Privileges, Quota, Supply};

/// How many connections a server can hold, and all the limits that were looked at.
///
/// [Displayed](fmt::Display), it is a sentence for those who start the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Connections on all rings together: what the first of the limits lets.
    ///
    /// With several rings it is an upper bound. The kernel spreads connections by a hash, so one ring is
    /// full a per cent or two before the others; whoever it then gets waits to be accepted there.
    pub connections: u64,
    /// Never empty.
    limits: Vec<Limit>,
    /// Whether as many will be held: one table is filled to its last slot.
    exact: bool,
}

/// One limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Its name, where possible the one it is set by.
    pub name: &'static str,
    /// The value found, and what it means.
    pub found: String,
    /// Which connections it bounds.
    pub reach: Reach,
    /// How many of these it lets.
    pub connections: u64,
    /// The commands that raise it, in quotation marks, if any do.
    pub remedy: Option<String>,
}

/// Which connections a limit bounds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reach {
    /// All that are open.
    Open,
    /// Those with something queued in their sockets at one time. Idle ones take nothing of it.
    Busy,
    /// Those that arrive at one time and wait to be accepted. Further ones have to try again.
    Arriving,
    /// None as things are: this process is exempt, or nothing makes use of it.
    Nobody,
}

/// The rings that connections are to be counted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rings {
    /// How many there are.
    pub count: u16,
    /// How many connections each may hold, if somebody has said.
    pub connections_max: Option<u32>,
    /// How many connections may wait for each to accept them, if the system lets so many.
    pub backlog: u16,
}

/// A ring's table of direct descriptors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    /// How many connections it holds.
    pub connections: u32,
    /// Room for connections that arrive while accepting is being paused.
    pub slack: u32,
}

impl Table {
    /// What a table can have in all (`IORING_MAX_FIXED_FILES`).
    pub const LEN_MAX: u32 = 1 << 20;
    /// The room beside connections, where there is enough.
    pub const SLACK_MAX: u32 = 64;

    /// The longest that the kernel allows with this `RLIMIT_NOFILE`.
    #[must_use]
    pub fn longest(open_files: u64) -> Self {
        let len = u32::try_from(open_files).unwrap_or(Self::LEN_MAX).min(Self::LEN_MAX);
        let slack = Self::SLACK_MAX.min(len / 2);
        Self { connections: len - slack, slack }
    }
}

impl Capacity {
    /// Asks the running system. The limit on open files is taken as it is.
    #[must_use]
    pub fn read(rings: Rings) -> Self {
        Self::new(rings, &Supply::read())
    }

    /// Works out what `rings` can hold with what the system has.
    #[must_use]
    pub fn new(rings: Rings, supply: &Supply) -> Self {
        let tables = [asked_for(rings), Some(tables(rings, supply))];
        let slots = tables.iter().flatten().map(|limit| limit.connections).min();
        let system = [
            supply.files.map(|files| open_files(files, supply.privileges)),
            supply.memory.map(memory),
            supply.budget.map(budget),
            supply.group.as_ref().map(group_memory),
            supply.tracked.map(tracked),
            supply.tcp_pages.map(queued),
            supply.backlog_max.map(|max| arriving(rings, max)),
        ];
        let mut limits: Vec<Limit> = tables.into_iter().chain(system).flatten().collect();
        // Stable: of equal ones the one that can be changed most easily is in front.
        limits.sort_by_key(|limit| (limit.reach, limit.connections));
        let connections = limits[0].connections;
        Self { connections, limits, exact: rings.count == 1 && slots == Some(connections) }
    }

    /// All limits: those that bound open connections first, the lowest of them in front.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The limit that bounds open connections before any other does.
    #[must_use]
    pub fn binding(&self) -> &Limit {
        self.limits.first().expect("there is always the limit of the tables")
    }

    /// The limit that leaves fewer connections something to queue than may be open, if one does.
    #[must_use]
    pub fn binding_when_busy(&self) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.reach == Reach::Busy && limit.connections < self.connections)
    }

    /// The limit that would bind if the first one were raised as far as its remedy says.
    fn next_below_goal(&self) -> Option<&Limit> {
        let goal = goal(self.connections);
        self.limits[1..].iter().find(|limit| limit.reach == Reach::Open && limit.connections < goal)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { name, found, remedy, .. } = self.binding();
        let about = if self.exact { "" } else { "about " };
        write!(f, "{about}{} connections: {name}={found}", grouped(self.connections))?;
        let Some(remedy) = remedy else { return Ok(()) };
        let goal = if self.connections < MILLION { "a million" } else { "twice as many" };
        write!(f, " -> {remedy} for {goal}")?;
        match self.next_below_goal() {
            Some(next) => write!(f, ", though {} lets {}", next.name, grouped(next.connections)),
            None => Ok(()),
        }
    }
}

/// A count in groups of three digits.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn asked_for(rings: Rings) -> Option<Limit> {
    let each = rings.connections_max?;
    Some(Limit {
        name: "--connections",
        found: format!("{each} {}", for_each(rings.count)),
        reach: Reach::Open,
        connections: u64::from(rings.count) * u64::from(each),
        remedy: None,
    })
}

/// Each ring has a table, and the kernel bounds its length by the limit on open files.
fn tables(rings: Rings, supply: &Supply) -> Limit {
    let open_files = supply.open_files.unwrap_or(u64::MAX);
    let each = Table::longest(open_files).connections;
    let connections = u64::from(rings.count) * u64::from(each);
    let (name, value) = match open_files < Table::LEN_MAX.into() {
        true => ("RLIMIT_NOFILE", open_files),
        false => ("direct descriptors", Table::LEN_MAX.into()),
    };
    Limit {
        name,
        found: format!("{value} {}", for_each(rings.count)),
        reach: Reach::Open,
        connections,
        remedy: longer_or_more_tables(open_files, each, goal(connections), supply),
    }
}

fn longer_or_more_tables(open_files: u64, each: u32, goal: u64, supply: &Supply) -> Option<String> {
    // The kernel doesn't fill rings evenly: without a margin some would be full before the goal is reached.
    let workers = (goal + goal / UNEVEN_PART).div_ceil(each.max(1).into());
    let started = workers <= u16::MAX.into() && workers * WORKER_DESCRIPTORS + OWN_DESCRIPTORS <= open_files;
    let workers = started.then(|| format!("'--workers {workers}'"));
    let possible = supply.open_files_max.unwrap_or(u64::MAX).min(Table::LEN_MAX.into());
    let ulimit = (open_files < possible).then(|| format!("'ulimit -n {possible}'"));
    // The server has raised its limit as far as it goes without the capability.
    let choices = match supply.privileges.raises_limits {
        true => [ulimit, workers],
        false => [workers, ulimit.map(|ulimit| format!("(with CAP_SYS_RESOURCE) {ulimit}"))],
    };
    let choices: Vec<String> = choices.into_iter().flatten().collect();
    (!choices.is_empty()).then(|| choices.join(" or "))
}

/// A connection is an open file of the system, though it takes no descriptor of the process.
fn open_files(files: Quota, privileges: Privileges) -> Limit {
    let Quota { used, max } = files;
    // `alloc_empty_file` of the kernel asks for this capability once the limit is reached.
    let (reach, exempt) = match privileges.exceeds_files {
        true => (Reach::Nobody, ", which does not hold for CAP_SYS_ADMIN"),
        false => (Reach::Open, ""),
    };
    let needed = goal(files.left()).saturating_add(used);
    let remedy = raise(reach, needed, |needed| format!("'sysctl -w fs.file-max={needed}'"));
    Limit {
        name: "fs.file-max",
        found: format!("{max}{exempt}; {used} are open"),
        reach,
        connections: files.left(),
        remedy,
    }
}

fn memory(bytes: u64) -> Limit {
    Limit {
        name: "memory",
        found: format!("{} MiB to be had at {CONNECTION_BYTES} bytes a connection", bytes >> 20),
        reach: Reach::Open,
        connections: bytes / CONNECTION_BYTES,
        remedy: None,
    }
}

fn budget(bytes: u64) -> Limit {
    let connections = bytes / CONNECTION_BYTES;
    let more = goal(connections).saturating_sub(connections).saturating_mul(CONNECTION_BYTES);
    Limit {
        name: "--memory",
        found: format!("{} MiB left at {CONNECTION_BYTES} bytes a connection", bytes >> 20),
        reach: Reach::Open,
        connections,
        remedy: Some(format!("'--memory' with {} MiB more", more >> 20)),
    }
}

fn group_memory(Group { path, max, left }: &Group) -> Limit {
    let connections = left / CONNECTION_BYTES;
    let needed = goal(connections).saturating_mul(CONNECTION_BYTES).saturating_add(max - left);
    Limit {
        name: "memory.max",
        found: format!("{} MiB left at {CONNECTION_BYTES} bytes a connection", left >> 20),
        reach: Reach::Open,
        connections,
        remedy: raise(Reach::Open, needed, |needed| format!("'echo {needed} > {path}'")),
    }
}

/// Connections are tracked only where rules ask for it. Then each is an entry from its first packet on.
fn tracked(quota: Quota) -> Limit {
    let Quota { used, max } = quota;
    let reach = if used == 0 { Reach::Nobody } else { Reach::Open };
    let needed = goal(quota.left()).saturating_add(used);
    Limit {
        name: "nf_conntrack_max",
        found: format!(
            "{max} entries, {}",
            if used == 0 { "none in use: nothing is tracked".into() } else { format!("{used} in use") }
        ),
        reach,
        connections: quota.left(),
        remedy: raise(reach, needed, |needed| format!("'sysctl -w net.netfilter.nf_conntrack_max={needed}'")),
    }
}

/// What is queued in a socket takes whole pages. Beyond the limit the kernel drops what arrives.
fn queued(pages: Quota) -> Limit {
    let Quota { used, max } = pages;
    let remedy = raise(Reach::Busy, goal(pages.left()).saturating_add(used), |max| {
        // In the proportion in which the kernel chooses them: half, two thirds.
        format!("'sysctl -w net.ipv4.tcp_mem=\"{} {} {max}\"'", max / 2, max / 3 * 2)
    });
    let found = format!("{max} pages, {used} in use; one at least for each socket with data");
    Limit { name: "net.ipv4.tcp_mem", found, reach: Reach::Busy, connections: pages.left(), remedy }
}

fn arriving(rings: Rings, somaxconn: u64) -> Limit {
    let backlog = u64::from(rings.backlog);
    let each = somaxconn.min(backlog);
    Limit {
        name: "net.core.somaxconn",
        found: format!("{somaxconn}, so {each} wait {}", for_each(rings.count)),
        reach: Reach::Arriving,
        connections: u64::from(rings.count) * each,
        remedy: (somaxconn < backlog).then(|| format!("'sysctl -w net.core.somaxconn={backlog}'")),
    }
}

/// The command that sets a limit to as much as is needed, as a round number.
fn raise(reach: Reach, needed: u64, command: impl Fn(u64) -> String) -> Option<String> {
    let round = needed.checked_next_power_of_two().filter(|round| *round <= SETTABLE_MAX)?;
    (reach != Reach::Nobody).then(|| command(round))
}

/// How many connections a limit is to be raised to.
fn goal(connections: u64) -> u64 {
    if connections < MILLION { MILLION } else { connections.saturating_mul(2) }
}

fn for_each(rings: u16) -> String {
    if rings == 1 { String::from("for the ring") } else { format!("for each of {rings} rings") }
}

const MILLION: u64 = 1_000_000;
/// Memory of an idle connection: some 4.2 KB of the kernel's (socket, file, poll), the rest ours and to spare.
const CONNECTION_BYTES: u64 = 4_506;
/// Descriptors that a worker takes (ring, listener, handle), and those that a process has besides.
const WORKER_DESCRIPTORS: u64 = 3;
const OWN_DESCRIPTORS: u64 = 32;
/// One in so many connections is room for uneven rings: two per cent.
const UNEVEN_PART: u64 = 50;
/// More than this the kernel takes for no limit, and no machine has.
const SETTABLE_MAX: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Rings = Rings { count: 2, connections_max: None, backlog: 4096 };
    const ALL: Privileges = Privileges { exceeds_files: true, raises_limits: true };

    /// A machine that has more than a million connections need, but for the limit on open files.
    fn supply() -> Supply {
        Supply {
            open_files: Some(20_000),
            open_files_max: Some(1_048_576),
            files: Some(Quota { used: 519, max: 2_466_177 }),
            tcp_pages: Some(Quota { used: 359, max: 1_575_802 }),
            tracked: Some(Quota { used: 0, max: 262_144 }),
            backlog_max: Some(4096),
            memory: Some(24 << 30),
            budget: None,
            group: None,
            privileges: Privileges::default(),
        }
    }

    #[track_caller]
    fn check(rings: Rings, supply: &Supply, expect: &str) {
        assert_eq!(Capacity::new(rings, supply).to_string(), expect);
    }

    /// Expects a limit to let `connections` of those within its reach, and to be raised by `remedy`.
    #[track_caller]
    fn check_limit(supply: &Supply, name: &str, expect: (Reach, u64), remedy: Option<&str>) {
        let capacity = Capacity::new(TWO, supply);
        let limit = capacity.limits.iter().find(|limit| limit.name == name).expect("it is in the list");
        assert_eq!(((limit.reach, limit.connections), limit.remedy.as_deref()), (expect, remedy), "{}", limit.found);
    }

    #[test]
    fn the_tables_of_all_rings_bound_connections_and_more_rings_hold_more() {
        let found = "about 39,872 connections: RLIMIT_NOFILE=20000 for each of 2 rings";
        let remedy = "'--workers 52' or (with CAP_SYS_RESOURCE) 'ulimit -n 1048576'";
        check(TWO, &supply(), &format!("{found} -> {remedy} for a million"));
        let privileged = Supply { privileges: ALL, ..supply() };
        check(TWO, &privileged, &format!("{found} -> 'ulimit -n 1048576' or '--workers 52' for a million"));
        // More open files than this the kernel allows nobody.
        let stuck = Supply { open_files_max: Some(20_000), ..supply() };
        check(TWO, &stuck, &format!("{found} -> '--workers 52' for a million"));
        // So many workers would need more descriptors than there are.
        let narrow = Supply { open_files: Some(1024), privileges: ALL, ..supply() };
        let found = "about 1,920 connections: RLIMIT_NOFILE=1024 for each of 2 rings";
        check(TWO, &narrow, &format!("{found} -> 'ulimit -n 1048576' for a million"));
        check(TWO, &Supply { open_files_max: Some(1024), ..narrow }, found);
    }

    #[test]
    fn one_ring_is_filled_to_the_last_slot() {
        let one = Rings { count: 1, ..TWO };
        let expect = "19,936 connections: RLIMIT_NOFILE=20000 for the ring -> 'ulimit -n 1048576' or '--workers 52'";
        check(one, &Supply { privileges: ALL, ..supply() }, &format!("{expect} for a million"));
        let small = Supply { memory: Some(10 << 20), ..supply() };
        check(one, &small, "about 2,327 connections: memory=10 MiB to be had at 4506 bytes a connection");
    }

    #[test]
    fn what_was_asked_for_is_a_limit_that_no_command_raises() {
        let asked = Rings { connections_max: Some(10), ..TWO };
        check(asked, &supply(), "about 20 connections: --connections=10 for each of 2 rings");
        let capacity = Capacity::new(asked, &supply());
        assert_eq!((capacity.connections, capacity.limits[1].name), (20, "RLIMIT_NOFILE"));
    }

    #[test]
    fn beyond_a_million_the_remedy_is_for_twice_as_many() {
        let large = Supply { open_files: Some(u64::MAX), privileges: ALL, files: None, ..supply() };
        let found = "about 2,097,024 connections: direct descriptors=1048576 for each of 2 rings";
        check(TWO, &large, &format!("{found} -> '--workers 5' for twice as many"));
    }

    #[test]
    fn the_limit_that_binds_next_is_named_with_the_remedy() {
        let next = Supply { files: Some(Quota { used: 0, max: 300_000 }), ..supply() };
        let text = Capacity::new(TWO, &next).to_string();
        assert!(text.ends_with(" for a million, though fs.file-max lets 300,000"), "{text}");
    }

    #[test]
    fn open_files_of_the_system_bind_all_but_the_privileged() {
        let files = Some(Quota { used: 500, max: 10_500 });
        let few = Supply { files, ..supply() };
        check_limit(&few, "fs.file-max", (Reach::Open, 10_000), Some("'sysctl -w fs.file-max=1048576'"));
        assert_eq!(Capacity::new(TWO, &few).binding().name, "fs.file-max");
        check_limit(&Supply { privileges: ALL, ..few }, "fs.file-max", (Reach::Nobody, 10_000), None);
        let files = Some(Quota { used: 500, max: i64::MAX.unsigned_abs() });
        let expect = (Reach::Open, 9_223_372_036_854_775_307);
        check_limit(&Supply { files, ..supply() }, "fs.file-max", expect, None);
        let files = Some(Quota { used: 7, max: 5 });
        let remedy = Some("'sysctl -w fs.file-max=1048576'");
        check_limit(&Supply { files, ..supply() }, "fs.file-max", (Reach::Open, 0), remedy);
    }

    #[test]
    fn pages_of_tcp_bind_only_connections_with_data() {
        let name = "net.ipv4.tcp_mem";
        let few = Supply { tcp_pages: Some(Quota { used: 0, max: 1000 }), ..supply() };
        let remedy = Some("'sysctl -w net.ipv4.tcp_mem=\"524288 699050 1048576\"'");
        check_limit(&few, name, (Reach::Busy, 1000), remedy);
        let capacity = Capacity::new(TWO, &few);
        assert_eq!(capacity.connections, 39_872, "idle ones take no page");
        assert_eq!(capacity.binding_when_busy().map(|limit| limit.connections), Some(1000));
        assert_eq!(Capacity::new(TWO, &supply()).binding_when_busy(), None);
    }

    #[test]
    fn conntrack_binds_where_it_is_used() {
        check_limit(&supply(), "nf_conntrack_max", (Reach::Nobody, 262_144), None);
        let tracked = Supply { tracked: Some(Quota { used: 144, max: 262_144 }), ..supply() };
        let remedy = Some("'sysctl -w net.netfilter.nf_conntrack_max=1048576'");
        check_limit(&tracked, "nf_conntrack_max", (Reach::Open, 262_000), remedy);
    }

    #[test]
    fn memory_of_the_machine_and_of_the_group_bind() {
        let group = Some(Group { path: "/cg/memory.max".into(), max: 50_000_000, left: 45_060_000 });
        let small = Supply { memory: Some(90_120_000), group, ..supply() };
        check_limit(&small, "memory", (Reach::Open, 20_000), None);
        check_limit(&small, "memory.max", (Reach::Open, 10_000), Some("'echo 8589934592 > /cg/memory.max'"));
        assert_eq!(Capacity::new(TWO, &small).binding().name, "memory.max");
    }

    #[test]
    fn the_backlog_bounds_only_those_that_arrive() {
        check_limit(&supply(), "net.core.somaxconn", (Reach::Arriving, 8192), None);
        let short = Supply { backlog_max: Some(128), ..supply() };
        let remedy = Some("'sysctl -w net.core.somaxconn=4096'");
        check_limit(&short, "net.core.somaxconn", (Reach::Arriving, 256), remedy);
    }

    #[test]
    fn a_system_that_shows_nothing_leaves_the_tables() {
        let capacity = Capacity::new(TWO, &Supply::default());
        assert_eq!((capacity.connections, capacity.limits.len()), (2_097_024, 1));
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576")] {
            assert_eq!(grouped(count), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn what_the_server_was_given_binds_where_it_is_least() {
        let given = Supply { budget: Some(45_060_000), ..supply() };
        let found = "about 10,000 connections: --memory=42 MiB left at 4506 bytes a connection";
        check(
            TWO,
            &given,
            &format!("{found} -> '--memory' with 4254 MiB more for a million, though RLIMIT_NOFILE lets 39,872"),
        );
    }

    #[test]
    fn a_table_leaves_room_beside_connections() {
        let check = |open_files, connections, slack| {
            assert_eq!(Table::longest(open_files), Table { connections, slack }, "{open_files}");
        };
        check(20_000, 19_936, 64);
        check(40, 20, 20);
        check(1, 1, 0);
        check(0, 0, 0);
        check(1 << 20, 1_048_512, 64);
        check(u64::MAX, 1_048_512, 64);
    }
}
