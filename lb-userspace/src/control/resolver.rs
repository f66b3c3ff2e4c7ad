//! Asks the name servers where SIP hosts are, beside the workers.
//!
//! A worker looks a name up in the newest [`Names`] snapshot and, if it is not there or over, puts the question into a
//! queue by its [`Asker`], which never waits. One thread takes questions out of it, runs [`crate::names::find`] for up to
//! 64 of them at a time, and publishes a snapshot with the answers. tokio lives in that thread alone: a worker wakes it
//! through a pair of sockets.
//!
//! Owned here: queue, thread, cache, the DNS on the wire. Left to [`crate::names`]: what is asked in which order, how long
//! an answer is good.

mod dns;
mod service;

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use self::{dns::NameServers, service::Service};
use crate::{
    names::{Names, OwnedQuestion, Question},
    sys::thread::monotonic_ns,
};

/// Questions that wait to be asked. Workers ask for each call, so a question that is refused comes again.
const QUEUE_LEN: usize = 256;
/// Questions that workers know to be under way; see [`Marks`].
const MARKS: usize = 1024;
/// Name servers that are used.
const MAX_NAME_SERVERS: usize = 8;
/// How long a name server has for an answer, in each of two attempts.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Keeps a [`Names`] snapshot and answers what an [`Asker`] asks, until dropped.
pub struct Resolver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Puts questions to a [`Resolver`]; one for each worker.
#[derive(Clone)]
pub struct Asker {
    shared: Arc<Shared>,
}

/// Counters of a [`Resolver`] since its start, and one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions that were put to the name servers.
    pub asked: u64,
    /// Of them, those whose answer has targets.
    pub answered: u64,
    /// Of them, those for which the DNS has nothing.
    pub not_found: u64,
    /// Of them, those that no name server answered or could answer.
    pub failed: u64,
    /// Questions that found the queue full.
    pub refused_full: u64,
    /// Answers in the newest snapshot.
    pub names: u64,
}

#[derive(Default)]
struct Counters {
    asked: AtomicU64,
    answered: AtomicU64,
    not_found: AtomicU64,
    failed: AtomicU64,
    refused_full: AtomicU64,
}

struct Shared {
    names: Arc<ArcSwap<Names>>,
    queue: ArrayQueue<OwnedQuestion>,
    marks: Marks,
    counters: Counters,
    /// Name servers that the thread has not seen yet.
    new_name_servers: Mutex<Option<Vec<SocketAddr>>>,
    stop: AtomicBool,
    /// A byte for the thread when it has something to look at.
    wake: UnixStream,
    published: Mutex<u64>,
    changed: Condvar,
}

/// What tests want to have otherwise.
struct Settings {
    query_timeout: Duration,
    /// Nanoseconds of the clock that the workers look names up by.
    clock: fn() -> u64,
}

impl Resolver {
    /// Starts to answer questions with the help of these name servers, or without any of those of `/etc/resolv.conf`.
    ///
    /// # Errors
    ///
    /// When there is no name server, or no thread or descriptor for it.
    pub fn start(name_servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let settings = Settings {
            query_timeout: QUERY_TIMEOUT,
            clock: monotonic_ns,
        };
        Self::start_with(name_servers, settings)
    }

    fn start_with(name_servers: &[SocketAddr], settings: Settings) -> anyhow::Result<Self> {
        let name_servers = checked(name_servers)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the resolver")?;
        let (wake, woken) = {
            let _context = runtime.enter();
            wake_up().context("cannot make a pair of sockets to wake the resolver")?
        };
        let shared = Arc::new(Shared {
            names: Arc::default(),
            queue: ArrayQueue::new(QUEUE_LEN),
            marks: Marks::default(),
            counters: Counters::default(),
            new_name_servers: Mutex::new(None),
            stop: AtomicBool::new(false),
            wake,
            published: Mutex::new(0),
            changed: Condvar::new(),
        });
        let name_servers = NameServers::new(name_servers, settings.query_timeout);
        let service = Service::new(shared.clone(), name_servers, settings);
        let thread = std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(service.run(woken)))
            .context("cannot start the thread that asks name servers")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Where the newest snapshot always is.
    pub fn names(&self) -> Arc<ArcSwap<Names>> {
        self.shared.names.clone()
    }

    /// A way to ask, to be kept by a worker.
    pub fn asker(&self) -> Asker {
        Asker {
            shared: self.shared.clone(),
        }
    }

    /// Asks these name servers from now on; without any those of `/etc/resolv.conf`, which is read again. What is known
    /// stays so.
    ///
    /// # Errors
    ///
    /// When there is no name server. Then everything stays as it was.
    pub fn set_name_servers(&self, name_servers: &[SocketAddr]) -> anyhow::Result<()> {
        let name_servers = checked(name_servers)?;
        *lock(&self.shared.new_name_servers) = Some(name_servers);
        self.shared.wake();
        Ok(())
    }

    /// What has been asked and answered.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            asked: load(&counters.asked),
            answered: load(&counters.answered),
            not_found: load(&counters.not_found),
            failed: load(&counters.failed),
            refused_full: load(&counters.refused_full),
            names: self.shared.names.load().len() as u64,
        }
    }

    /// Waits until a snapshot satisfies `condition`; false when none did within `timeout`.
    pub fn wait_for(&self, timeout: Duration, mut condition: impl FnMut(&Names) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut published = lock(&self.shared.published);
        loop {
            if condition(&self.shared.names.load()) {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let woken = self.shared.changed.wait_timeout(published, left);
            published = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already; the last snapshot stays valid.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Asker {
    /// Has a question answered: the answer is in a later snapshot. False when too many questions wait already.
    ///
    /// Never waits and never allocates; a question that is under way costs a hash. A host that cannot be a name needs no
    /// question, since [`Names::look_up`] knows the answer.
    pub fn ask(&self, question: &Question<'_>) -> bool {
        OwnedQuestion::new(question).is_none_or(|question| self.ask_owned(&question))
    }

    /// The same for a question that has been checked.
    pub fn ask_owned(&self, question: &OwnedQuestion) -> bool {
        let shared = &*self.shared;
        if !shared.marks.set(question) {
            return true;
        }
        if shared.queue.push(*question).is_err() {
            shared.marks.clear(question);
            shared.counters.refused_full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        shared.wake();
        true
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("waiting", &self.shared.queue.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Makes the thread look at queue, name servers and stop flag.
    fn wake(&self) {
        // It fails when bytes enough are there for the thread to look anyway, and when the thread has ended.
        let _ = (&self.wake).write(&[0]);
    }

    fn publish(&self, names: &Names) {
        let mut published = lock(&self.published);
        *published += 1;
        self.names.store(Arc::new(names.clone()));
        self.changed.notify_all();
    }
}

/// Hashes of questions that are waiting or being asked, so that the calls to a name that arrive meanwhile do not fill
/// the queue.
///
/// A hint: a mark that another question has taken lets a question through twice, and the thread, which knows better,
/// asks once. The thread clears a mark when it is through with the question, however that ends, so none stays for ever.
struct Marks {
    /// Drawn at start, so that nobody outside can find names that meet.
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Marks {
    /// False when it is set already.
    fn set(&self, question: &OwnedQuestion) -> bool {
        let (slot, mark) = self.place(question);
        if slot.load(Ordering::Relaxed) == mark {
            return false;
        }
        slot.store(mark, Ordering::Relaxed);
        true
    }

    fn clear(&self, question: &OwnedQuestion) {
        let (slot, mark) = self.place(question);
        // Another question's mark stays.
        let _ = slot.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn place(&self, question: &OwnedQuestion) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(question);
        // 0 is no mark.
        (&self.slots[hash as usize % MARKS], hash.max(1))
    }
}

/// Both ends of what wakes the thread; neither ever blocks. Inside a runtime.
fn wake_up() -> io::Result<(UnixStream, tokio::net::UnixStream)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    Ok((wake, tokio::net::UnixStream::from_std(woken)?))
}

/// The name servers to use, at least one.
fn checked(name_servers: &[SocketAddr]) -> anyhow::Result<Vec<SocketAddr>> {
    let name_servers = match name_servers {
        [] => dns::system_name_servers().with_context(|| {
            format!(
                "cannot take the name servers from {RESOLV_CONF}: add a line `nameserver ADDRESS` to it, or list name \
                 servers in the configuration"
            )
        })?,
        listed => listed.to_vec(),
    };
    if name_servers.len() > MAX_NAME_SERVERS {
        bail!(
            "{} name servers; at most {MAX_NAME_SERVERS} are possible",
            name_servers.len()
        );
    }
    Ok(name_servers)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
