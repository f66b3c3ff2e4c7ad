//! Frames on their way from one worker to another.

/// Frames in a parcel: a batch of an RX ring.
pub(super) const PARCEL_FRAMES: usize = 64;
/// Bytes in a parcel: forty INVITEs, or eight of the largest frames.
const PARCEL_BYTES: usize = 32 * 1024;

/// Frames that are handed over together, so that what two cores have to tell each other is said once for many of them.
/// Made once, filled again and again.
#[derive(Debug)]
pub struct Parcel {
    bytes: Box<[u8]>,
    /// Where each frame ends; it begins where the one before ends.
    ends: [u32; PARCEL_FRAMES],
    count: usize,
    /// Who fills it, and how many that worker had filled for this receiver with this one.
    pub(super) from: usize,
    pub(super) number: u64,
}

impl Parcel {
    /// Memory that is not touched is not there yet: a node that never shares has spent its addresses alone.
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; PARCEL_BYTES].into_boxed_slice(),
            ends: [0; PARCEL_FRAMES],
            count: 0,
            from: 0,
            number: 0,
        }
    }

    pub(super) fn begin(&mut self, from: usize, number: u64) {
        self.count = 0;
        self.from = from;
        self.number = number;
    }

    fn used(&self) -> usize {
        match self.count {
            0 => 0,
            count => self.ends[count - 1] as usize,
        }
    }

    /// Copies a frame in; false when there is no room for it.
    #[inline]
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let start = self.used();
        if self.count == PARCEL_FRAMES || frame.len() > self.bytes.len() - start {
            return false;
        }
        let end = start + frame.len();
        self.bytes[start..end].copy_from_slice(frame);
        self.ends[self.count] = end as u32;
        self.count += 1;
        true
    }

    /// How many frames are in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames, in the order in which they came.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let ends = &self.ends[..self.count];
        let starts = std::iter::once(&0).chain(ends);
        starts
            .zip(ends)
            .map(|(start, end)| &self.bytes[*start as usize..*end as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut parcel = Parcel::new();
        for _ in 0..2 {
            parcel.begin(3, 4);
            assert!(parcel.is_empty());
            let frames: Vec<Vec<u8>> = (0..PARCEL_FRAMES)
                .map(|number| vec![number as u8; number])
                .collect();
            for frame in &frames {
                assert!(parcel.push(frame));
            }
            assert!(!parcel.push(b"one too many"));
            assert!(parcel.frames().eq(frames.iter().map(Vec::as_slice)));
            assert_eq!(parcel.len(), PARCEL_FRAMES);
        }
    }

    #[test]
    fn a_parcel_takes_eight_of_the_largest_frames() {
        let mut parcel = Parcel::new();
        parcel.begin(0, 1);
        let largest = [7; 4096];
        assert!((0..8).all(|_| parcel.push(&largest)));
        assert!(!parcel.push(&[7]));
        assert_eq!(parcel.frames().count(), 8);
    }
}
