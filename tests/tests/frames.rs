//! No chunk of the UMEM is ever lost or held twice: whatever order chunks are taken, filled, given back, sent and
//! reclaimed in, also while the interface goes down, the books add up after every step.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lb_userspace::{
    afxdp::{
        self, Bound, Receiver, Sender, SocketOptions, TxChunk, TxPool, Umem, program::Program,
    },
    config::{WantedAttach, ZeroCopy},
    frame::{self, Ends, NextHop},
    sys::thread::monotonic_ns,
};
use siplb_lab::{Host, can_run, until};

const CHUNKS: u32 = 160;
const RING: u32 = 64;
const STEPS: u32 = 400_000;
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn chunks_are_neither_lost_nor_held_twice() {
    if !can_run() {
        return;
    }
    let host = Host::new(&format!("siplb-{}-frames", std::process::id())).expect("a host");
    host.ip("link add one type veth peer name other")
        .expect("a pair");
    for device in ["one", "other"] {
        // What is sent to nowhere is to die in the kernel, and to cause no frames of its own.
        host.sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "1")
            .expect("a setting");
        host.ip(&format!("link set {device} up")).expect("a device");
    }
    host.ip("link set one address 02:00:00:00:00:02")
        .expect("an address");
    host.run("ethtool", "-K other gro on").expect("GRO");
    let pins = PathBuf::from(format!("/sys/fs/bpf/siplb-frames-{}", std::process::id()));
    let seed = monotonic_ns() | 1;
    eprintln!("seed {seed}");
    host.enter(|| Machine::new(&host, &pins, seed).run())
        .expect("the namespace");
    let _ = std::fs::remove_dir_all(&pins);
}

/// One UMEM with its socket, and a second one at the other end of the wire that sends to it.
struct Machine<'a> {
    host: &'a Host,
    program: Program,
    random: u64,
    pool: TxPool,
    sender: Sender,
    receiver: Receiver,
    /// Chunks that were taken and are with nobody else.
    held: Vec<TxChunk>,
    feeder: (TxPool, Sender),
    /// Payloads that arrived.
    arrived: u64,
    refused: u64,
    exhausted: u64,
}

impl<'a> Machine<'a> {
    fn new(host: &'a Host, pins: &Path, seed: u64) -> Self {
        let mut program =
            Program::attach("one", pins, WantedAttach::Native, false).expect("the XDP program");
        let (
            pool,
            Bound {
                receiver, sender, ..
            },
        ) = socket("one");
        let (feed, bound) = socket("other");
        program
            .set_socket(0, std::os::fd::AsFd::as_fd(&receiver))
            .expect("a slot");
        program.set_vips(&[ends().destination]).expect("a VIP");
        program.gates().beat(0, monotonic_ns());
        program.gates().open(0, Duration::from_secs(60));
        Self {
            host,
            program,
            random: seed,
            pool,
            sender,
            receiver,
            held: Vec::new(),
            feeder: (feed, bound.sender),
            arrived: 0,
            refused: 0,
            exhausted: 0,
        }
    }

    fn run(mut self) {
        for step in 0..STEPS {
            self.step(step);
            let accounted = self.pool.free() as u32 + self.held.len() as u32 + self.sender.chunks();
            assert_eq!(accounted, CHUNKS - RING, "after step {step}");
        }
        for chunk in self.held.drain(..) {
            self.pool.give_back(chunk);
        }
        // What was sent comes back, and what was received has all been given back.
        until("the chunks of what was sent", PATIENCE, || {
            self.sender.flush(&mut self.pool);
            (self.sender.chunks() == 0).then_some(())
        })
        .expect("all of them");
        assert_eq!(self.pool.free() as u32, CHUNKS - RING);
        until("an empty RX ring", PATIENCE, || {
            self.receive();
            (self.receiver.chunks() == (RING, 0)).then_some(())
        })
        .expect("all chunks in the fill ring");
        assert_different(&mut self.pool);
        eprintln!(
            "{} frames arrived, {} times the ring was full, {} times no chunk was free",
            self.arrived, self.refused, self.exhausted
        );
        assert!(self.arrived > 0 && self.refused > 0 && self.exhausted > 0);
        self.program.detach().expect("detached");
    }

    fn step(&mut self, step: u32) {
        if step % (STEPS / 4) == STEPS / 8 {
            // Frames that wait for a device which is not there.
            self.host.ip("link set one down").expect("down");
        }
        if step % (STEPS / 4) == STEPS / 8 + 2_000 {
            self.host.ip("link set one up").expect("up");
        }
        match self.below(16) {
            0..=4 => match self.pool.take() {
                Some(chunk) => self.held.push(chunk),
                None => self.exhausted += 1,
            },
            5 => {
                if let Some(chunk) = self.any_held() {
                    self.pool.give_back(chunk);
                }
            }
            6..=10 => {
                if let Some(mut chunk) = self.any_held() {
                    let len = 60 + self.below(1000) as usize;
                    fill(&mut self.pool, &mut chunk, len);
                    if let Err(chunk) = self.sender.enqueue(chunk) {
                        self.refused += 1;
                        self.held.push(chunk);
                    }
                }
            }
            // Seldom, so that rings fill.
            11 if self.below(8) == 0 => {
                self.sender.flush(&mut self.pool);
            }
            12 => self.sender.reclaim(&mut self.pool),
            13 | 14 => self.receive(),
            15 => self.feed(),
            _ => {}
        }
    }

    fn receive(&mut self) {
        let count = self.receiver.receive();
        for position in 0..count {
            let frame = self.receiver.frame(position);
            assert!(
                frame.len() >= 60 && frame[42..].iter().all(|byte| *byte == FILLING),
                "a frame that was written to: {}",
                frame.escape_ascii()
            );
        }
        self.receiver.recycle();
        self.arrived += count as u64;
    }

    /// Sends some frames from the other end.
    fn feed(&mut self) {
        let count = self.below(40);
        let (pool, sender) = &mut self.feeder;
        for _ in 0..count {
            let Some(mut chunk) = pool.take() else { break };
            fill(pool, &mut chunk, 200);
            if let Err(chunk) = sender.enqueue(chunk) {
                pool.give_back(chunk);
            }
        }
        sender.flush(pool);
    }

    fn any_held(&mut self) -> Option<TxChunk> {
        let len = self.held.len() as u64;
        (len > 0).then(|| {
            let index = self.below(len) as usize;
            self.held.swap_remove(index)
        })
    }

    /// xorshift64 (Marsaglia 2003).
    fn below(&mut self, count: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % count
    }
}

const FILLING: u8 = b'x';

fn socket(device: &str) -> (TxPool, Bound) {
    let mut umem = Umem::new(CHUNKS, 2048, RING).expect("a UMEM");
    let options = SocketOptions {
        ring: RING,
        zero_copy: ZeroCopy::Never,
    };
    let bound = afxdp::bind(&mut umem, device, 0, options).expect("a socket");
    (umem.into_pool(), bound)
}

fn ends() -> Ends {
    Ends {
        source: "198.51.100.7:5060".parse().expect("an address"),
        destination: "203.0.113.10:5060".parse().expect("an address"),
    }
}

/// Makes a frame of `len` bytes for the VIP at interface `one`; the other end drops it.
fn fill(pool: &mut TxPool, chunk: &mut TxChunk, len: usize) {
    let hop = NextHop {
        port: 0,
        destination_mac: [2, 0, 0, 0, 0, 2],
        source_mac: [2, 0, 0, 0, 0, 1],
        vlan: None,
        mtu: 1500,
    };
    let memory = &mut pool.memory(chunk)[..len];
    memory.fill(FILLING);
    let headers = frame::headers_len(&hop, true);
    let checksum = frame::new_checksum(&ends(), &memory[headers..]);
    frame::write_headers(memory, &hop, &ends(), checksum, 0);
    pool.set_len(chunk, len);
}

/// Marks every free chunk and looks whether a mark was overwritten: no two are the same memory.
fn assert_different(pool: &mut TxPool) {
    let mut chunks = Vec::new();
    while let Some(mut chunk) = pool.take() {
        let mark = (chunks.len() as u32).to_be_bytes();
        pool.memory(&mut chunk)[..4].copy_from_slice(&mark);
        chunks.push(chunk);
    }
    for (number, mut chunk) in (0u32..).zip(chunks) {
        assert_eq!(pool.memory(&mut chunk)[..4], number.to_be_bytes());
        pool.give_back(chunk);
    }
}
