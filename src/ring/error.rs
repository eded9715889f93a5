//! Why a ring can't be had here, in words that say what to do.

use std::io;

use crate::sys::machine::Machine;

/// The exit code for a system that has to be configured first (`EX_CONFIG` of `sysexits.h`).
pub const EXIT_CODE: u8 = 78;

/// The oldest kernel that has every operation this crate builds on.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Why io_uring can't be used: the cause, the value found, and what mends it.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The kernel is older than the floor.
    #[error(
        "io_uring unavailable: kernel {kernel} is too old -> run Linux 6.1 or newer (6.12 or newer is best); \
         Debian 12 and Ubuntu 24.04 have one"
    )]
    Kernel {
        /// What `uname -r` says.
        kernel: String,
    },
    /// A sysctl forbids it.
    #[error(
        "io_uring unavailable: EPERM, kernel.io_uring_disabled={value} -> run 'sysctl -w kernel.io_uring_disabled=0'\
         {}", if *.value == 1 { ", or put the service's group into kernel.io_uring_group" } else { "" }
    )]
    Disabled {
        /// The value of `kernel.io_uring_disabled`.
        value: u8,
    },
    /// A seccomp profile forbids it.
    #[error(
        "io_uring unavailable: {errno} on kernel {kernel}, kernel.io_uring_disabled={} -> a seccomp profile blocks it \
         (the default of Docker 25, containerd 2.0 and newer): allow io_uring_setup, io_uring_enter and \
         io_uring_register in a profile of yours and start with '--security-opt seccomp=PROFILE.json'",
        .disabled.map_or_else(|| String::from("not shown"), |value| value.to_string())
    )]
    Seccomp {
        /// `EPERM` or `ENOSYS`.
        errno: &'static str,
        /// What `uname -r` says.
        kernel: String,
        /// The value of `kernel.io_uring_disabled`, which allows it.
        disabled: Option<u8>,
    },
    /// Memory is short, or may not be locked.
    #[error(
        "io_uring set-up: ENOMEM, RLIMIT_MEMLOCK={} -> raise it: 'ulimit -l unlimited', LimitMEMLOCK=infinity in a \
         systemd unit, '--ulimit memlock=-1' for a container; or free some memory",
        .locked_memory.map_or_else(|| String::from("unknown"), |bytes| format!("{} KiB", bytes / 1024))
    )]
    Memory {
        /// `RLIMIT_MEMLOCK` in bytes.
        locked_memory: Option<u64>,
    },
    /// More connections were asked for than the process may have open files.
    #[error(
        "io_uring set-up: {connections} connections per worker need RLIMIT_NOFILE={needed}, which is {open_files} -> \
         raise it: 'ulimit -n {needed}', LimitNOFILE={needed} in a systemd unit, '--ulimit nofile={needed}' for a \
         container; or ask for at most {possible} with --connections"
    )]
    OpenFiles {
        /// How many a worker was to hold.
        connections: u32,
        /// The limit that they need.
        needed: u64,
        /// `RLIMIT_NOFILE`.
        open_files: u64,
        /// How many a worker can hold with it.
        possible: u32,
    },
    /// The process has no file descriptor left.
    #[error(
        "io_uring set-up: EMFILE, RLIMIT_NOFILE={} -> raise it: 'ulimit -n 1048576', LimitNOFILE=1048576 in a systemd \
         unit, '--ulimit nofile=1048576' for a container",
        .open_files.map_or_else(|| String::from("unknown"), |count| count.to_string())
    )]
    Descriptors {
        /// `RLIMIT_NOFILE`.
        open_files: Option<u64>,
    },
    /// More connections were asked for than a ring's table can have.
    #[error(
        "io_uring set-up: {connections} connections per worker, but a ring holds {possible} at most -> ask for fewer \
         with --connections, and for more workers with --workers"
    )]
    TableSize {
        /// How many a worker was to hold.
        connections: u32,
        /// How many it can hold.
        possible: u32,
    },
    /// The kernel has the calls, but something that they do isn't what it should be.
    #[error(
        "io_uring self-test failed at '{step}' on kernel {kernel}: {cause} -> run a current kernel of the 6.12 series \
         or newer, or report this with the output of 'ringsock doctor'"
    )]
    SelfTest {
        /// What was tried.
        step: &'static str,
        /// What `uname -r` says.
        kernel: String,
        /// What happened.
        cause: String,
    },
    /// Anything else.
    #[error("io_uring set-up on kernel {kernel}: {cause} -> see 'man io_uring_setup' for this error")]
    Other {
        /// What `uname -r` says.
        kernel: String,
        /// The system's words.
        cause: String,
    },
}

impl StartError {
    /// Explains what `io_uring_setup(2)` or a registration answered on this machine.
    #[must_use]
    pub fn explain(error: &io::Error, machine: &Machine) -> Self {
        let kernel = machine.kernel.clone();
        let seccomp = |errno| Self::Seccomp { errno, kernel: kernel.clone(), disabled: machine.io_uring_disabled };
        match (error.raw_os_error(), machine.io_uring_disabled) {
            (Some(libc::EPERM), Some(value @ 1..)) => Self::Disabled { value },
            (Some(libc::EPERM), _) => seccomp("EPERM"),
            (Some(libc::ENOSYS | libc::EINVAL), _) if is_too_old(&machine.kernel) => Self::Kernel { kernel },
            (Some(libc::ENOSYS), _) => seccomp("ENOSYS"),
            (Some(libc::EMFILE | libc::ENFILE), _) => Self::Descriptors { open_files: machine.open_files },
            (Some(libc::ENOMEM), _) => Self::Memory { locked_memory: machine.locked_memory },
            _ => Self::Other { kernel, cause: error.to_string() },
        }
    }
}

/// Whether a release such as `5.15.0-91-generic` is below the floor. One that can't be read is not.
fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < KERNEL_MIN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: i32, kernel: &str, disabled: Option<u8>, words: &[&str]) {
        let machine = Machine {
            kernel: kernel.into(),
            io_uring_disabled: disabled,
            locked_memory: Some(65_536),
            open_files: Some(12),
        };
        let text = StartError::explain(&io::Error::from_raw_os_error(errno), &machine).to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
    }

    #[test]
    fn each_refusal_names_its_cause_the_value_found_and_the_cure() {
        check(libc::EPERM, "6.12.1", Some(2), &["io_uring_disabled=2", "sysctl -w kernel.io_uring_disabled=0"]);
        check(libc::EPERM, "6.12.1", Some(1), &["io_uring_disabled=1", "io_uring_group"]);
        check(libc::EPERM, "6.12.1", Some(0), &["EPERM", "seccomp", "io_uring_disabled=0", "--security-opt"]);
        check(libc::EPERM, "6.1.0", None, &["seccomp", "not shown"]);
        check(libc::ENOSYS, "5.15.0-91-generic", None, &["5.15.0-91-generic", "too old", "6.1"]);
        check(libc::EINVAL, "5.19.0", None, &["too old"]);
        check(libc::ENOSYS, "6.8.0", Some(0), &["ENOSYS", "seccomp"]);
        check(libc::ENOMEM, "6.8.0", Some(0), &["ENOMEM", "RLIMIT_MEMLOCK=64 KiB", "LimitMEMLOCK"]);
        check(libc::EMFILE, "6.8.0", Some(0), &["EMFILE", "RLIMIT_NOFILE=12", "ulimit -n"]);
        check(libc::EINVAL, "6.8.0", Some(0), &["6.8.0", "Invalid argument"]);
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(is_too_old("5.15.0") && is_too_old("6.0.19") && is_too_old("4.9"));
        assert!(!is_too_old("6.1.0-18-amd64") && !is_too_old("6.18.44") && !is_too_old("10.0") && !is_too_old("odd"));
    }
}
