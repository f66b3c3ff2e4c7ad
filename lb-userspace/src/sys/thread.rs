//! Threads and the clock that the XDP program shares with user space.

use std::{io, mem};

/// Nanoseconds of `CLOCK_MONOTONIC`: what `bpf_ktime_get_ns` and `bpf_ktime_get_coarse_ns` return as well.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result; CLOCK_MONOTONIC exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPUs that this process may run on, ascending.
///
/// # Errors
///
/// Those of `sched_getaffinity`.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is an array of integers, for which zero bytes are valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the size is that of `set`, which the kernel fills.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Pins the calling thread to one CPU.
///
/// # Errors
///
/// `EINVAL` when the CPU does not exist or is not allowed.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    keep_to_cpus(&[cpu])
}

/// Keeps the calling thread, and those that it starts from now on, to these CPUs.
///
/// # Errors
///
/// `EINVAL` when a CPU cannot exist, or none of them does or is allowed.
pub fn keep_to_cpus(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|cpu| *cpu >= libc::CPU_SETSIZE as usize) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `cpu_set_t` is an array of integers, for which zero bytes are valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for cpu in cpus {
        // SAFETY: `cpu` is below CPU_SETSIZE, as checked above.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: the size is that of `set`; 0 means the calling thread.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Forbids this process and its children to gain privileges, and keeps other users from reading its memory (the fleet
/// keys) through `/proc` and core dumps.
///
/// # Errors
///
/// Those of `prctl`.
pub fn harden_process() -> io::Result<()> {
    for (option, value) in [(libc::PR_SET_NO_NEW_PRIVS, 1), (libc::PR_SET_DUMPABLE, 0)] {
        let (value, zero): (libc::c_ulong, libc::c_ulong) = (value, 0);
        // SAFETY: both options take plain integers.
        if unsafe { libc::prctl(option, value, zero, zero, zero) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        let seen = std::thread::spawn(move || {
            pin_to_cpu(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [last]);
        assert!(pin_to_cpu(1 << 20).is_err());
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
    }
}
