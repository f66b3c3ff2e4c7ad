//! The frame of an XDP context as the decoder reads it.

use aya_ebpf::programs::XdpContext;
use lb_common::decode::Bytes;

use crate::opaque::opaque;

/// The bytes between `data` and `data_end`.
pub struct Frame {
    start: usize,
    end: usize,
}

/// No header starts later: 18 bytes of Ethernet with a tag, 60 of IPv4, 8 of UDP. The verifier wants a bound on every
/// offset that is not a constant.
const MAX_OFFSET: usize = 255;

impl Frame {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self {
            start: context.data(),
            end: context.data_end(),
        }
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = opaque(self.start + offset);
        if opaque(at + N) > self.end {
            return None;
        }
        // SAFETY: `at..at + N` lies within the frame, as just compared with its end; a byte array has no alignment.
        Some(unsafe { *(at as *const [u8; N]) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }
}
