//! The thread that takes questions and publishes answers.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    Settings, Shared,
    dns::{NameServers, Trouble},
    lock,
};
use crate::names::{Answer, Found, Lookup, Names, OwnedQuestion, find};

/// Questions that are asked at a time. The others wait in the queue.
const MAX_IN_FLIGHT: usize = 64;
/// A question is one query after another, each with a time of its own; this is for all of them. A caller gives up its
/// INVITE after 32 s (RFC 3261 §17.1.1.2).
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two snapshots: copying 4,096 names takes a tenth of it.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(1);
/// How often answers are looked for that may not be used any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often silent name servers are worth a line in the log.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

pub struct Service {
    shared: Arc<Shared>,
    name_servers: NameServers,
    settings: Settings,
    names: Names,
    tasks: JoinSet<(Found, Arc<Trouble>)>,
    in_flight: HashMap<Id, OwnedQuestion>,
    /// `names` has something that no snapshot has.
    changed: bool,
    /// The earliest time for the next snapshot.
    publish_at: Instant,
    warned_at: Option<Instant>,
}

impl Service {
    pub fn new(shared: Arc<Shared>, name_servers: NameServers, settings: Settings) -> Self {
        Self {
            shared,
            name_servers,
            settings,
            names: Names::default(),
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            changed: false,
            publish_at: Instant::now(),
            warned_at: None,
        }
    }

    /// Works until told to stop. Questions in flight are given up then.
    pub async fn run(mut self, wake: UnixStream) {
        let mut sweep = interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = woken(&wake) => {}
                Some(done) = self.tasks.join_next_with_id() => {
                    self.take_answer(done);
                    // Those that came together share a snapshot.
                    while let Some(done) = self.tasks.try_join_next_with_id() {
                        self.take_answer(done);
                    }
                }
                () = sleep_until(self.publish_at), if self.changed => {}
                _ = sweep.tick() => {
                    self.changed |= self.names.sweep((self.settings.clock)());
                }
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            self.take_name_servers();
            self.take_questions();
            let now = Instant::now();
            if self.changed && now >= self.publish_at {
                self.shared.publish(&self.names);
                self.changed = false;
                self.publish_at = now + PUBLISH_INTERVAL;
            }
        }
    }

    fn take_name_servers(&mut self) {
        let Some(addresses) = lock(&self.shared.new_name_servers).take() else {
            return;
        };
        // What is known about the same servers is kept. Questions in flight go on with the old ones.
        if addresses != self.name_servers.addresses() {
            log::debug!("name servers: {}", list(&addresses));
            self.name_servers = NameServers::new(addresses, self.settings.query_timeout);
        }
    }

    fn take_questions(&mut self) {
        while self.tasks.len() < MAX_IN_FLIGHT {
            let Some(question) = self.shared.queue.pop() else {
                return;
            };
            if self.in_flight.values().any(|other| *other == question) {
                // Its mark is cleared when the answer is there.
                continue;
            }
            // A worker that has not seen the newest snapshot asks for what is in it.
            let known = self.names.look_up_owned(&question, (self.settings.clock)());
            if matches!(known, Lookup::Known { refresh: false, .. }) {
                self.shared.marks.clear(&question);
                continue;
            }
            let asking = self.name_servers.asking();
            let task = self.tasks.spawn(async move {
                let found = timeout(QUESTION_TIMEOUT, find(&asking, &question)).await;
                let found = found.unwrap_or_else(|_| Found::new(Answer::Failed, 0));
                (found, asking.trouble())
            });
            self.in_flight.insert(task.id(), question);
            self.shared.counters.asked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_answer(&mut self, done: Result<(Id, (Found, Arc<Trouble>)), JoinError>) {
        let (id, found, trouble) = match done {
            Ok((id, (found, trouble))) => (id, found, trouble),
            // A panic, which has been printed already.
            Err(error) => (
                error.id(),
                Found::new(Answer::Failed, 0),
                Arc::<Trouble>::default(),
            ),
        };
        let Some(question) = self.in_flight.remove(&id) else {
            return;
        };
        let counters = &self.shared.counters;
        let counter = match &found.answer {
            Answer::Targets(_) => &counters.answered,
            Answer::NotFound => &counters.not_found,
            Answer::Failed => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.report(&question, &found, &trouble);
        self.names.put(&question, found, (self.settings.clock)());
        self.changed = true;
        self.shared.marks.clear(&question);
    }

    fn report(&mut self, question: &OwnedQuestion, found: &Found, trouble: &Trouble) {
        let ttl_s = found.ttl_s;
        match &found.answer {
            Answer::Targets(targets) => {
                let addresses = targets.as_slice().iter().map(|target| target.address);
                let addresses = list(&addresses.collect::<Vec<_>>());
                log::debug!("{question} is at {addresses} for {ttl_s} s");
            }
            Answer::NotFound => log::debug!("{question} is not in the DNS, for {ttl_s} s"),
            Answer::Failed => {
                let error = lock(&trouble.error).take();
                let error = error.map_or_else(|| "it took too long".to_owned(), |e| e.to_string());
                log::debug!("{question} could not be found: {error}");
                // A zone that is broken (SERVFAIL) is the trouble of its owner.
                let now = Instant::now();
                let is_quiet = self
                    .warned_at
                    .is_some_and(|warned_at| now < warned_at + WARN_INTERVAL);
                if trouble.silence.load(Ordering::Relaxed) && !is_quiet {
                    self.warned_at = Some(now);
                    log::warn!(
                        "no answer from the name servers {} for {question} ({error}): calls to names that are not \
                         known fail",
                        list(self.name_servers.addresses())
                    );
                }
            }
        }
    }
}

/// Waits for bytes and takes all that are there. Nothing is lost when it is given up on the way.
async fn woken(wake: &UnixStream) {
    // Neither can fail but for the end of the stream, and the other end lives as long as this thread.
    let _ = wake.readable().await;
    let mut bytes = [0; 256];
    while wake
        .try_read(&mut bytes)
        .is_ok_and(|len| len == bytes.len())
    {}
}

fn list(addresses: &[std::net::SocketAddr]) -> String {
    let texts = addresses.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().join(", ")
}
