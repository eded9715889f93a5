//! What the system has for connections: files, memory, buffers of sockets, entries of conntrack.

use std::fs;
use std::path::Path;

use crate::sys::limits;

/// What was found of it. What the system does not show is `None`, and bounds nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Supply {
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
    /// `fs.nr_open`: how far `RLIMIT_NOFILE` can be raised.
    pub open_files_max: Option<u64>,
    /// Files of all processes, by `fs.file-nr`: how many are open, and `fs.file-max`.
    pub files: Option<Quota>,
    /// Pages for what is queued in all TCP sockets: how many are taken, and the third number of
    /// `net.ipv4.tcp_mem`.
    pub tcp_pages: Option<Quota>,
    /// What conntrack follows, and `net.netfilter.nf_conntrack_max`.
    pub tracked: Option<Quota>,
    /// `net.core.somaxconn`.
    pub backlog_max: Option<u64>,
    /// Memory that can be had without swapping, in bytes (`MemAvailable`).
    pub memory: Option<u64>,
    /// How much the server may still take of the memory that it was given (`--memory`), in bytes.
    pub budget: Option<u64>,
    /// The control group with the least memory left.
    pub group: Option<Group>,
    /// Whether this process may do what the kernel refuses to others.
    pub privileges: Privileges,
}

/// Something that is shared by many, and how much of it is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// How much is taken.
    pub used: u64,
    /// How much there is.
    pub max: u64,
}

/// A control group (version 2) whose memory is bounded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// The file with the bound.
    pub path: String,
    /// How much memory it may take, in bytes.
    pub max: u64,
    /// How much of that is left. What only caches files counts as left.
    pub left: u64,
}

/// Of the capabilities of the process those that limits ask for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Privileges {
    /// The kernel opens files for it beyond `fs.file-max` (`CAP_SYS_ADMIN`, not that of a user namespace).
    pub exceeds_files: bool,
    /// It may raise its hard limits (`CAP_SYS_RESOURCE`, not that of a user namespace).
    pub raises_limits: bool,
}

impl Supply {
    /// Asks the running system.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| number(&text(path));
        let conntrack = |name: &str| number(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        Self {
            open_files: limits::open_files().ok(),
            open_files_max: number("/proc/sys/fs/nr_open"),
            files: files(&text("/proc/sys/fs/file-nr")),
            tcp_pages: tcp_pages(&text("/proc/sys/net/ipv4/tcp_mem"), &text("/proc/net/sockstat")),
            tracked: conntrack("count").zip(conntrack("max")).map(|(used, max)| Quota { used, max }),
            backlog_max: number("/proc/sys/net/core/somaxconn"),
            memory: kibibytes(&text("/proc/meminfo"), "MemAvailable:"),
            budget: None,
            group: group(Path::new("/sys/fs/cgroup"), &text("/proc/self/cgroup")),
            privileges: privileges(&text("/proc/self/status"), &text("/proc/self/uid_map")),
        }
    }
}

impl Quota {
    /// How much is left.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// The one number of a file.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The three numbers of a file.
fn three_numbers(text: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(number).collect();
    numbers?.try_into().ok()
}

/// `fs.file-nr`: how many files there are, how many of these nobody has open, how many there may be.
fn files(file_nr: &str) -> Option<Quota> {
    let [made, free, max] = three_numbers(file_nr)?;
    Some(Quota { used: made.saturating_sub(free), max })
}

/// `net.ipv4.tcp_mem`, and how much of it is taken if that is shown.
fn tcp_pages(tcp_mem: &str, sockstat: &str) -> Option<Quota> {
    let [_, _, max] = three_numbers(tcp_mem)?;
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
    let mut words = tcp.unwrap_or_default().split_whitespace().skip_while(|word| *word != "mem");
    Some(Quota { used: words.nth(1).and_then(number).unwrap_or(0), max })
}

/// A line such as `MemAvailable:  1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    number(line.trim().strip_suffix("kB")?)?.checked_mul(1024)
}

/// Of the group of this process and those around it, the bounded one with the least memory left.
fn group(mount: &Path, cgroup: &str) -> Option<Group> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let inner = mount.join(path);
    let groups = inner.ancestors().take_while(|folder| folder.starts_with(mount)).filter_map(|folder| {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let max = number(&text("memory.max"))?;
        let left = group_left(max, &text("memory.current"), &text("memory.stat"));
        Some(Group { path: folder.join("memory.max").display().to_string(), max, left })
    });
    groups.min_by_key(|group| group.left)
}

/// What a group has left of `max`. Under pressure the kernel drops cached files.
fn group_left(max: u64, memory_current: &str, memory_stat: &str) -> u64 {
    let current = number(memory_current).unwrap_or(0);
    let cached =
        |name: &str| memory_stat.lines().find_map(|line| line.strip_prefix(name)).and_then(number).unwrap_or(0);
    let files = cached("inactive_file ").saturating_add(cached("active_file "));
    max.saturating_sub(current.saturating_sub(files))
}

/// Capabilities count here only if they hold for the whole system: in a user namespace root has all of
/// them, and yet the kernel refuses.
fn privileges(status: &str, uid_map: &str) -> Privileges {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let initial = three_numbers(uid_map) == Some([0, 0, u32::MAX.into()]);
    let has = |bit: u32| initial && effective & 1 << bit != 0;
    Privileges { exceeds_files: has(CAP_SYS_ADMIN), raises_limits: has(CAP_SYS_RESOURCE) }
}

/// Bits of `CapEff` (linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_made_less_those_free() {
        assert_eq!(files("519\t0\t2466177\n"), Some(Quota { used: 519, max: 2_466_177 }));
        assert_eq!(files("10 4 9223372036854775807"), Some(Quota { used: 6, max: 9_223_372_036_854_775_807 }));
        for bad in ["", "1 2", "1 2 3 4", "1 2 x", "1 2 -3", "1 2 99999999999999999999"] {
            assert_eq!(files(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pages_of_tcp_are_bounded_by_the_third_number() {
        let sockstat = "sockets: used 19\nTCP: inuse 1 orphan 0 tw 7 alloc 1 mem 359\nUDP: inuse 0 mem 8\n";
        let check = |tcp_mem, sockstat, expect: Option<(u64, u64)>| {
            assert_eq!(tcp_pages(tcp_mem, sockstat), expect.map(|(used, max)| Quota { used, max }));
        };
        check("287901\t383868\t575802\n", sockstat, Some((359, 575_802)));
        check("1 2 3", "", Some((0, 3)));
        check("1 2 3", "TCP: mem", Some((0, 3)));
        check("1 2 3", "TCP: mem many", Some((0, 3)));
        check("1 2", sockstat, None);
        check("", sockstat, None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let check = |text, expect| assert_eq!(kibibytes(text, "MemAvailable:"), expect, "{text:?}");
        check("MemTotal: 9 kB\nMemAvailable:   23909916 kB\n", Some(24_483_753_984));
        check("MemTotal: 9 kB\n", None);
        check("MemAvailable: 12\n", None);
        check("MemAvailable: 18446744073709551615 kB\n", None);
    }

    #[test]
    fn cached_files_of_a_group_count_as_left() {
        let stat = "anon 5\nfile 900\ninactive_file 300\nactive_file 100\n";
        assert_eq!(group_left(1000, "700\n", stat), 700);
        assert_eq!(group_left(1000, "300", stat), 1000, "counters are read one after the other");
        assert_eq!(group_left(1000, "1200", ""), 0);
        assert_eq!(group_left(1000, "", ""), 1000);
    }

    #[test]
    fn the_tightest_of_the_groups_around_a_process_is_found() {
        let mount = std::env::temp_dir().join(format!("ringsock-groups-{}", std::process::id()));
        let write = |folder: &str, max: &str| {
            fs::create_dir_all(mount.join(folder)).unwrap();
            fs::write(mount.join(folder).join("memory.max"), max).unwrap();
        };
        write("outer", "500");
        write("outer/inner", "900");
        write("outer/inner/own", "max");
        let found = group(&mount, "4:memory:/v1\n0::/outer/inner/own\n");
        let path = mount.join("outer").join("memory.max").display().to_string();
        assert_eq!(found, Some(Group { path, max: 500, left: 500 }));
        assert_eq!(group(&mount, "4:memory:/outer\n"), None, "that is version 1");
        assert_eq!(group(&mount, "0::/\n"), None);
        assert_eq!(group(&mount, "0::/nowhere\n"), None);
        fs::remove_dir_all(&mount).unwrap();
    }

    #[test]
    fn capabilities_count_only_outside_user_namespaces() {
        const ALL: &str = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        const INITIAL: &str = "         0          0 4294967295\n";
        let check = |status, uid_map, expect: (bool, bool)| {
            let found = privileges(status, uid_map);
            assert_eq!((found.exceeds_files, found.raises_limits), expect, "{status:?} {uid_map:?}");
        };
        check(ALL, INITIAL, (true, true));
        check("CapEff:\t000001fffeffffff\n", INITIAL, (true, false));
        check("CapEff:\t0000000001000000\n", INITIAL, (false, true));
        check("CapEff:\t0000000000000000\n", INITIAL, (false, false));
        check(ALL, "0 1000 1\n", (false, false));
        check(ALL, "", (false, false));
        check("CapEff:\tnone\n", INITIAL, (false, false));
        check("", INITIAL, (false, false));
    }

    #[test]
    fn the_running_system_shows_its_files_and_memory() {
        let supply = Supply::read();
        assert!(supply.open_files.is_some() && supply.files.is_some() && supply.memory.is_some(), "{supply:?}");
    }
}
