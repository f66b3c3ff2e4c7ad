//! Hides from the compiler what the verifier has to see.

use core::arch::asm;

/// `value`, of which the compiler must not know where it comes from.
///
/// The verifier follows packet pointers through additions as they are written here: first the offset, then the length,
/// then the comparison with the end. An optimiser that knows all three may turn them into arithmetic on the end, which
/// the verifier refuses.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    let same;
    // SAFETY: moves a register to itself. One instruction there must be: the line table knows no empty ones.
    unsafe {
        asm!("{0} = {0}", inout(reg) value => same, options(pure, nomem, nostack, preserves_flags));
    }
    same
}
