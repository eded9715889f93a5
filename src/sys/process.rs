//! What the kernel says of a process: the processor time and memory that it has used.

use std::time::Duration;
use std::{fs, io};

/// A process whose consumption is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Process {
    /// The calling one.
    Own,
    /// That of a process id.
    Id(u32),
}

impl Process {
    /// The processor time of all its threads, in user space and in the kernel, those that have
    /// ended included. It is exact, unlike the ticks of 10 ms in `/proc`.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn cpu_time(self) -> io::Result<Duration> {
        let id = match self {
            Self::Own => 0,
            Self::Id(id) => {
                let id = libc::pid_t::try_from(id).ok().filter(|&id| id != 0);
                id.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?
            }
        };
        let mut clock: libc::clockid_t = 0;
        // SAFETY: the call writes one clock id, which is what the pointer points to.
        match unsafe { libc::clock_getcpuclockid(id, &raw mut clock) } {
            0 => read_clock(clock),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The memory of it that is resident, in bytes.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it may not be looked at.
    pub fn resident_bytes(self) -> io::Result<u64> {
        let path = match self {
            Self::Own => "/proc/self/status".into(),
            Self::Id(id) => format!("/proc/{id}/status"),
        };
        resident_bytes(&fs::read_to_string(path)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which is what the pointer points to.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let parts = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    let (Ok(seconds), Ok(nanoseconds)) = parts else { return Err(io::ErrorKind::InvalidData.into()) };
    Ok(Duration::new(seconds, nanoseconds))
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1_263_616));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn the_own_process_can_be_read_and_one_that_is_not_there_cannot() {
        let before = Process::Own.cpu_time().expect("the kernel shows it");
        (0..100_000_u64).for_each(|number| _ = std::hint::black_box(number));
        let own = Process::Id(std::process::id()).cpu_time().expect("the kernel shows it");
        assert!(before > Duration::ZERO && own > before, "every instruction takes time: {before:?}, {own:?}");
        assert!(Process::Own.resident_bytes().expect("the kernel shows it") > 0);
        assert!(Process::Id(u32::MAX).cpu_time().is_err() && Process::Id(0).cpu_time().is_err());
    }
}
