//! Hints to the processor to load memory before it is needed, while there is other work to do.

#![allow(unsafe_code)]

/// Bytes of a cache line on the machines that we know.
const LINE: usize = 64;

/// Asks for the cache line that `place` begins in. Only a hint: nothing waits for it, it never fails, and on processors other than
/// x86-64 it is left out, since the standard library has no stable one for them.
#[inline(always)]
pub fn prefetch<T: ?Sized>(place: &T) {
    let place = core::ptr::from_ref(place).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no effect that a program could see, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(place);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Asks for all cache lines of `bytes`.
#[inline(always)]
pub fn prefetch_all(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        prefetch(line);
    }
}
