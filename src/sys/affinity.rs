//! Pinning threads to processors.

use std::io;
use std::mem;

/// The processors that this process may run on, in order.
///
/// # Errors
///
/// What `sched_getaffinity(2)` says.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = current_set()?;
    Ok((0..size_of_val(&set) * 8).filter(|&cpu| is_set(&set, cpu)).collect())
}

/// Pins the calling thread to `cpu`.
///
/// # Errors
///
/// What `sched_setaffinity(2)` says: the processor may not exist or not be allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a processor set is an array of integers, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if cpu >= size_of_val(&set) * 8 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the index was just compared with the size of the set that the macro writes to.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads as many bytes as the given size, which is that of the set.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn current_set() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a processor set is an array of integers, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most as many bytes as the given size, which is that of the set.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_set(set: &libc::cpu_set_t, cpu: usize) -> bool {
    // SAFETY: the callers count below the bits of the set.
    unsafe { libc::CPU_ISSET(cpu, set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_allowed_on_its_processor_alone() {
        let cpus = allowed().expect("the kernel answers");
        assert!(!cpus.is_empty());
        let last = *cpus.last().expect("at least one");
        let seen = std::thread::spawn(move || pin(last).and_then(|()| allowed())).join().expect("no panic");
        assert_eq!(seen.expect("the kernel answers"), [last]);
    }

    #[test]
    fn a_processor_beyond_the_set_is_refused() {
        assert!(pin(1 << 20).is_err());
    }
}
