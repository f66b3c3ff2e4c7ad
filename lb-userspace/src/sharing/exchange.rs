//! What workers know of each other, and their inboxes.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed, fence,
        },
    },
    time::Duration,
};

use anyhow::{Context, Result};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use super::{Parcel, Side};

/// Parcels of an inbox, 2 MiB: some 2,500 INVITEs, as many as an RX ring holds by default.
const PARCELS: usize = 64;
/// The load of a worker that is full.
pub(super) const FULL: u32 = 1000;

/// Where the workers of a node meet.
#[derive(Debug)]
pub struct Exchange {
    posts: Box<[Post]>,
    /// Workers that may still hand something over.
    handing: AtomicUsize,
    stale_after_ns: u64,
}

/// One worker, as the others see it.
#[derive(Debug)]
struct Post {
    /// Written by the worker once a turn, and read by others once in a while.
    state: CachePadded<State>,
    /// Parcels to fill.
    free: ArrayQueue<Box<Parcel>>,
    /// Parcels to empty.
    full: ArrayQueue<Box<Parcel>>,
    /// By worker: the number of its last parcel whose frames have all been handled, and sent as far as they are sent.
    done: Box<[AtomicU64]>,
    /// Whoever fills the inbox of a worker that sleeps wakes it by this.
    wake: OwnedFd,
    sleeps: CachePadded<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// Permille of the last interval that it worked.
    load: AtomicU32,
    /// False before its first turn and after its last one.
    is_open: AtomicBool,
    heartbeat_ns: AtomicU64,
}

impl Exchange {
    /// For so many workers, of whom one that has been silent for `stale_after` gets nothing. Takes all memory that will ever be
    /// needed: 2 MiB for each of them.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn new(workers: usize, stale_after: Duration) -> Result<Arc<Self>> {
        let post = || -> Result<Post> {
            let free = ArrayQueue::new(PARCELS);
            for _ in 0..PARCELS {
                // There is room for all of them.
                let _ = free.push(Box::new(Parcel::new()));
            }
            Ok(Post {
                state: CachePadded::default(),
                free,
                full: ArrayQueue::new(PARCELS),
                done: (0..workers).map(|_| AtomicU64::new(0)).collect(),
                wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .context("eventfd")?,
                sleeps: CachePadded::default(),
            })
        };
        Ok(Arc::new(Self {
            posts: (0..workers).map(|_| post()).collect::<Result<_>>()?,
            handing: AtomicUsize::new(workers),
            stale_after_ns: u64::try_from(stale_after.as_nanos()).unwrap_or(u64::MAX),
        }))
    }

    /// The side of a worker. Each has one.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn side(self: &Arc<Self>, worker: usize) -> Side {
        Side::new(Arc::clone(self), worker)
    }

    pub(super) fn workers(&self) -> usize {
        self.posts.len()
    }

    /// Says that a worker runs.
    pub(super) fn beat(&self, worker: usize, now_ns: u64) {
        self.posts[worker].state.heartbeat_ns.store(now_ns, Relaxed);
    }

    /// Says how busy it was.
    pub(super) fn set_load(&self, worker: usize, permille: u32) {
        self.posts[worker].state.load.store(permille, Relaxed);
    }

    /// Lets others hand something to a worker, or no more.
    pub(super) fn set_open(&self, worker: usize, is_open: bool) {
        self.posts[worker]
            .state
            .is_open
            .store(is_open, Ordering::Release);
    }

    /// How busy another worker is, or `None` when it is not there: it has ended, or hangs.
    pub(super) fn load(&self, worker: usize, now_ns: u64) -> Option<u32> {
        let state = &self.posts[worker].state;
        let silent_ns = now_ns.saturating_sub(state.heartbeat_ns.load(Relaxed));
        let is_there = state.is_open.load(Ordering::Acquire) && silent_ns <= self.stale_after_ns;
        is_there.then(|| state.load.load(Relaxed))
    }

    /// An empty parcel for a worker, if its inbox has room.
    pub(super) fn take_empty(&self, to: usize) -> Option<Box<Parcel>> {
        self.posts[to].free.pop()
    }

    /// Parcels that wait for a worker.
    pub(super) fn waiting(&self, to: usize) -> usize {
        self.posts[to].full.len()
    }

    /// Puts a parcel into a worker's inbox, and wakes it.
    pub(super) fn post(&self, to: usize, parcel: Box<Parcel>) {
        let post = &self.posts[to];
        // There is a place for every parcel.
        if let Err(parcel) = post.full.push(parcel) {
            drop(post.free.push(parcel));
            return;
        }
        // The worker says that it sleeps and then looks into its inbox; here it is the other way round, so one sees the other.
        fence(Ordering::SeqCst);
        if post.sleeps.load(Relaxed) && post.sleeps.swap(false, Relaxed) {
            // Full means that it is awake.
            let _ = rustix::io::write(&post.wake, &1u64.to_ne_bytes());
        }
    }

    /// The next parcel for a worker.
    pub(super) fn receive(&self, worker: usize) -> Option<Box<Parcel>> {
        self.posts[worker].full.pop()
    }

    /// Gives a worker's parcel back to those who fill it.
    pub(super) fn return_empty(&self, worker: usize, parcel: Box<Parcel>) {
        drop(self.posts[worker].free.push(parcel));
    }

    /// Says that all frames of the parcels of `from` up to this one have been sent by `worker`.
    pub(super) fn set_done(&self, worker: usize, from: usize, number: u64) {
        self.posts[worker].done[from].store(number, Ordering::Release);
    }

    /// See [`Self::set_done`].
    pub(super) fn done(&self, worker: usize, from: usize) -> u64 {
        self.posts[worker].done[from].load(Ordering::Acquire)
    }

    /// Says that a worker is about to sleep. False when it must not: something is in its inbox.
    pub(super) fn may_sleep(&self, worker: usize) -> bool {
        let post = &self.posts[worker];
        post.sleeps.store(true, Relaxed);
        fence(Ordering::SeqCst);
        let may = post.full.is_empty();
        if !may {
            post.sleeps.store(false, Relaxed);
        }
        may
    }

    /// Says that it does not sleep any more.
    pub(super) fn awake(&self, worker: usize, was_woken: bool) {
        let post = &self.posts[worker];
        post.sleeps.store(false, Relaxed);
        if was_woken {
            let _ = rustix::io::read(&post.wake, &mut [0; 8]);
        }
    }

    /// What wakes a worker.
    pub(super) fn wake_fd(&self, worker: usize) -> BorrowedFd<'_> {
        self.posts[worker].wake.as_fd()
    }

    /// One worker less hands over.
    pub(super) fn hands_no_more(&self) {
        self.handing.fetch_sub(1, Ordering::Release);
    }

    /// Whether nothing can come into any inbox any more.
    pub(super) fn is_over(&self) -> bool {
        self.handing.load(Ordering::Acquire) == 0
    }
}
