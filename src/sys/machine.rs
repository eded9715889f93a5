//! What the machine says of itself: the kernel's release and the switches that concern io_uring.

use std::ffi::CStr;
use std::{fs, mem};

use crate::sys::limits;

/// The facts that explain why a ring could or could not be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    /// The kernel's release as `uname -r` prints it.
    pub kernel: String,
    /// `kernel.io_uring_disabled`, where the kernel has it (6.6 on) and shows it.
    pub io_uring_disabled: Option<u8>,
    /// `RLIMIT_MEMLOCK` in bytes.
    pub locked_memory: Option<u64>,
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
}

impl Machine {
    /// Asks the running system.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel: kernel_release(),
            io_uring_disabled: fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            locked_memory: limits::locked_memory().ok(),
            open_files: limits::open_files().ok(),
        }
    }
}

fn kernel_release() -> String {
    // SAFETY: `utsname` is arrays of characters, for which all zeros is a value.
    let mut name: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one `utsname`, which is what the pointer points to.
    if unsafe { libc::uname(&raw mut name) } != 0 {
        return String::from("unknown");
    }
    // SAFETY: the array was zeroed and the kernel ends what it writes with a zero, so the string
    // ends within the array, which outlives the borrow.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_a_release() {
        let machine = Machine::read();
        assert!(machine.kernel.starts_with(|first: char| first.is_ascii_digit()), "{machine:?}");
    }
}
