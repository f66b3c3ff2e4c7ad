//! How memory is laid out.

use std::{io, ops::Range};

/// Smallest page.
const PAGE: usize = 4096;

/// Asks the kernel to put memory of this process into huge pages, now: a table that is read all over the place then needs one entry
/// of the TLB for two megabytes of it instead of five hundred.
///
/// # Errors
///
/// Those of `madvise(MADV_COLLAPSE)`, since Linux 6.1: `EINVAL` before, `ENOMEM` without free huge pages. What is in the memory is the
/// same in any case.
pub fn use_huge_pages(memory: &Range<*const u8>) -> io::Result<()> {
    let start = memory.start.addr().next_multiple_of(PAGE);
    let Some(len) = (memory.end.addr() & !(PAGE - 1)).checked_sub(start) else {
        return Ok(());
    };
    let address = memory.start.with_addr(start).cast_mut().cast();
    // SAFETY: pages are moved as the kernel moves them at any time: what is in them, and who may do what with them, stays. For a
    // range that is not mapped it returns an error.
    if unsafe { libc::madvise(address, len, libc::MADV_COLLAPSE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_memory_stays() {
        let memory = (0..1u32 << 20).collect::<Vec<_>>();
        let range = memory.as_ptr_range();
        // Not every kernel has it, and not every machine has free huge pages.
        let _ = use_huge_pages(&(range.start.cast()..range.end.cast()));
        assert!(memory.iter().zip(0..).all(|(found, want)| *found == want));
    }

    #[test]
    fn less_than_a_page_is_left_alone() {
        let memory = [1u8; 100];
        use_huge_pages(&memory.as_ptr_range()).unwrap();
    }
}
