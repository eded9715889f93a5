//! Resource limits of the process.

use std::io;

/// The limit on open files (`RLIMIT_NOFILE`): it bounds each ring's table of direct descriptors.
///
/// # Errors
///
/// What `getrlimit(2)` says.
pub fn open_files() -> io::Result<u64> {
    get(libc::RLIMIT_NOFILE).map(|limit| limit.rlim_cur)
}

/// Raises the limit on open files as far as it goes without privileges and returns what it is then.
///
/// # Errors
///
/// What `getrlimit(2)` or `setrlimit(2)` say.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = get(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads one `rlimit`, which is what the pointer points to.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// The limit on locked memory in bytes (`RLIMIT_MEMLOCK`).
///
/// # Errors
///
/// What `getrlimit(2)` says.
pub fn locked_memory() -> io::Result<u64> {
    get(libc::RLIMIT_MEMLOCK).map(|limit| limit.rlim_cur)
}

fn get(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, which is what the pointer points to.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_never_lowers() {
        let before = open_files().expect("the kernel answers");
        let after = raise_open_files().expect("the kernel answers");
        assert!(after >= before && open_files().expect("the kernel answers") == after);
    }
}
