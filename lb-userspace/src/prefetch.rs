//! Hints to the processor to load memory before it is needed, while there is other work to do.

#![allow(unsafe_code)]

/// Bytes of a cache line.
#[cfg(feature = "node")]
const LINE: usize = 64;

/// Asks for the cache line that `place` begins in. Only a hint: nothing waits for it, and it never fails.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(place: &T) {
    let place = std::ptr::from_ref(place).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no effect that a program could see, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Asks for all cache lines of `bytes`.
#[cfg(feature = "node")]
#[inline(always)]
pub(crate) fn prefetch_all(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        prefetch(line);
    }
}
