//! Where the frames of each call go, in order.
//!
//! A bucket has an owner, which the governor sets, and a place: where its last frame went. They differ for a moment after the owner
//! has changed, and until then frames go on to where they went:
//!
//! - From here to another worker: all frames that this worker handles in a turn have been sent at its end, so from the next turn
//!   on the others may go elsewhere.
//! - From another worker to here or to a third one: once that worker says that it has sent the last frame of the bucket that it
//!   got. Frames that come in the meantime go to it too.
//!
//! A worker that is gone is not waited for: what it has not sent by then it never will.

use super::BUCKETS;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// This worker handles it itself.
    Here,
    /// Into the inbox of this one.
    To(usize),
}

/// Where the last frame of a bucket went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Here, in this turn.
    Here(u32),
    /// To a worker, with its parcel of this number.
    To(u16, u64),
}

/// The buckets of one worker.
#[derive(Debug)]
pub(super) struct Buckets {
    me: u16,
    owners: [u16; BUCKETS],
    places: [Place; BUCKETS],
    /// Buckets of others.
    away: usize,
}

impl Buckets {
    /// All are `me`'s.
    pub fn new(me: usize) -> Self {
        Self {
            me: me as u16,
            owners: [me as u16; BUCKETS],
            places: [Place::Here(0); BUCKETS],
            away: 0,
        }
    }

    /// How many others have.
    pub fn away(&self) -> usize {
        self.away
    }

    /// How many a worker has.
    pub fn of(&self, worker: usize) -> usize {
        let owners = self.owners.iter();
        owners
            .filter(|owner| usize::from(**owner) == worker)
            .count()
    }

    /// Gives up to `count` buckets of one worker to another. Between two turns.
    pub fn move_some(&mut self, from: usize, to: usize, count: usize) {
        let [from, to] = [from as u16, to as u16];
        let owners = self.owners.iter_mut();
        for owner in owners.filter(|owner| **owner == from).take(count) {
            *owner = to;
        }
        let owners = self.owners.iter();
        self.away = owners.filter(|owner| **owner != self.me).count();
    }

    /// Where a frame of a bucket goes in this turn, which is not that of the first frame. `is_sent` says whether a worker has sent
    /// all up to the parcel of this number, or is gone.
    #[inline]
    pub fn way(&self, bucket: usize, turn: u32, is_sent: impl Fn(usize, u64) -> bool) -> Way {
        let owner = self.owners[bucket];
        match self.places[bucket] {
            Place::To(worker, _) if worker == owner => Way::To(worker.into()),
            Place::To(worker, number) if !is_sent(worker.into(), number) => Way::To(worker.into()),
            Place::Here(last) if last == turn => Way::Here,
            Place::Here(_) | Place::To(..) if owner == self.me => Way::Here,
            Place::Here(_) | Place::To(..) => Way::To(owner.into()),
        }
    }

    /// Whether a frame that was to go to another worker may be handled here instead.
    pub fn may_stay(&self, bucket: usize, is_sent: impl Fn(usize, u64) -> bool) -> bool {
        match self.places[bucket] {
            Place::Here(_) => true,
            Place::To(worker, number) => is_sent(worker.into(), number),
        }
    }

    /// A frame of the bucket is handled here.
    #[inline]
    pub fn stayed(&mut self, bucket: usize, turn: u32) {
        self.places[bucket] = Place::Here(turn);
    }

    /// A frame of the bucket is in the parcel of this number.
    #[inline]
    pub fn went(&mut self, bucket: usize, to: usize, number: u64) {
        self.places[bucket] = Place::To(to as u16, number);
    }

    /// All is sent that was handed over, and nothing of it is asked for any more.
    pub fn settle(&mut self, turn: u32) {
        self.places.fill(Place::Here(turn.wrapping_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: usize = 0;

    fn never(_: usize, _: u64) -> bool {
        false
    }

    #[test]
    fn all_stay_until_some_are_given_away() {
        let mut buckets = Buckets::new(ME);
        assert!((0..BUCKETS).all(|bucket| buckets.way(bucket, 1, never) == Way::Here));
        buckets.move_some(ME, 2, 10);
        buckets.move_some(ME, 3, 20);
        assert_eq!(
            [buckets.of(ME), buckets.of(2), buckets.of(3)],
            [226, 10, 20]
        );
        assert_eq!(buckets.away(), 30);
        let away = (0..BUCKETS).filter(|bucket| buckets.way(*bucket, 1, never) != Way::Here);
        assert_eq!(away.count(), 30);
        buckets.move_some(2, ME, BUCKETS);
        buckets.move_some(3, ME, BUCKETS);
        assert_eq!((buckets.away(), buckets.of(ME)), (0, BUCKETS));
    }

    #[test]
    fn what_was_handled_in_this_turn_is_sent_before_the_next_frame_goes_elsewhere() {
        let mut buckets = Buckets::new(ME);
        buckets.move_some(ME, 1, BUCKETS);
        // The inbox was full.
        buckets.stayed(7, 5);
        assert_eq!(buckets.way(7, 5, never), Way::Here);
        assert_eq!(buckets.way(8, 5, never), Way::To(1));
        assert_eq!(buckets.way(7, 6, never), Way::To(1));
    }

    #[test]
    fn a_bucket_comes_back_when_the_other_has_sent_all_of_it() {
        let mut buckets = Buckets::new(ME);
        buckets.move_some(ME, 1, BUCKETS);
        buckets.went(7, 1, 40);
        buckets.move_some(1, ME, BUCKETS);
        let sent_up_to =
            |last: u64| move |worker: usize, number: u64| worker == 1 && number <= last;
        assert_eq!(buckets.way(7, 9, sent_up_to(39)), Way::To(1));
        assert!(!buckets.may_stay(7, sent_up_to(39)));
        buckets.went(7, 1, 41);
        assert_eq!(buckets.way(7, 9, sent_up_to(40)), Way::To(1));
        assert!(buckets.may_stay(7, sent_up_to(41)));
        assert_eq!(buckets.way(7, 9, sent_up_to(41)), Way::Here);
        // Nothing of this one has ever gone.
        assert_eq!(buckets.way(8, 9, never), Way::Here);
    }

    #[test]
    fn a_bucket_moves_on_when_the_other_has_sent_all_of_it() {
        let mut buckets = Buckets::new(ME);
        buckets.move_some(ME, 1, BUCKETS);
        buckets.went(7, 1, 40);
        buckets.move_some(1, 2, BUCKETS);
        assert_eq!(buckets.way(7, 9, never), Way::To(1));
        assert_eq!(buckets.way(7, 9, |_, _| true), Way::To(2));
    }
}
