//! The bare forwarder: the AF_XDP layer of siplb, which writes MAC addresses and nothing else. No proxy can be faster on
//! the same host.

use std::{
    io::Write,
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use lb_userspace::{
    afxdp::{
        self, Receiver, Sender, SocketOptions, TxPool, Umem,
        program::{Gates, Program, pin_dir},
    },
    config::{WantedAttach, ZeroCopy},
    sys::{
        net::{PollSet, wait_readable},
        thread::{monotonic_ns, pin_to_cpu},
    },
};

const CHUNKS: u32 = 8192;
const CHUNK_BYTES: u32 = 2048;
const RING: u32 = 2048;
const STALE_AFTER: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_millis(40);

/// What it needs to know.
#[derive(Args, Debug)]
pub struct BareArgs {
    /// The VIP and port that frames are for
    #[arg(long)]
    pub vip: std::net::SocketAddr,
    /// Directory for the pins of the XDP programs
    #[arg(long)]
    pub pins: PathBuf,
    /// MAC address that frames leave with, as 12 hexadecimal digits
    #[arg(long)]
    pub source: String,
    /// MAC address that frames go to
    #[arg(long)]
    pub destination: String,
    /// CPU to run on
    #[arg(long)]
    pub cpu: usize,
}

/// An interface with its socket.
struct Port {
    receiver: Receiver,
    gates: Gates,
    program: Program,
}

/// Forwards what comes in by `outside` to `inside` until SIGTERM. Prints a line when it is ready.
///
/// # Errors
///
/// When something cannot be opened.
pub fn run(arguments: &BareArgs) -> Result<()> {
    pin_to_cpu(arguments.cpu)?;
    let over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGTERM, Arc::clone(&over))?;
    let macs = [mac(&arguments.destination)?, mac(&arguments.source)?].concat();
    let mut umem = Umem::new(CHUNKS, CHUNK_BYTES, RING)?;
    let options = SocketOptions {
        ring: RING,
        zero_copy: ZeroCopy::Prefer,
    };
    let mut open = |interface: &str| -> Result<(Port, Sender)> {
        let pins = pin_dir(&arguments.pins, interface);
        let mut program = Program::attach(interface, &pins, WantedAttach::Native, false)?;
        let bound = afxdp::bind(&mut umem, interface, 0, options)?;
        program.set_socket(0, bound.receiver.as_fd())?;
        program.set_vips(&[arguments.vip])?;
        let gates = program.gates();
        let port = Port {
            receiver: bound.receiver,
            gates,
            program,
        };
        Ok((port, bound.sender))
    };
    let (mut outside, _unused) = open("outside")?;
    let (inside, mut sender) = open("inside")?;
    let mut pool = umem.into_pool();
    let mut poll = PollSet::default();
    poll.push(outside.receiver.as_fd());
    outside.gates.open(0, STALE_AFTER);
    println!("ready");
    std::io::stdout().flush()?;
    while !over.load(Ordering::Relaxed) {
        outside.gates.beat(0, monotonic_ns());
        if forward(&mut outside.receiver, &mut sender, &mut pool, &macs) == 0
            && wait_readable(&mut poll, IDLE).is_err()
        {
            poll.clear_ready();
        }
    }
    outside.gates.close(0);
    outside.program.detach()?;
    inside.program.detach()
}

fn forward(receiver: &mut Receiver, sender: &mut Sender, pool: &mut TxPool, macs: &[u8]) -> usize {
    let count = receiver.receive();
    if count == 0 {
        return 0;
    }
    for position in 0..count {
        let frame = receiver.frame(position);
        let Some(mut chunk) = pool.take() else {
            break;
        };
        let memory = pool.memory(&mut chunk);
        memory[..macs.len()].copy_from_slice(macs);
        memory[macs.len()..frame.len()].copy_from_slice(&frame[macs.len()..]);
        pool.set_len(&mut chunk, frame.len());
        if let Err(chunk) = sender.enqueue(chunk) {
            pool.give_back(chunk);
        }
    }
    sender.flush(pool);
    receiver.recycle();
    count
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let wrong = || format!("{text:?} is no MAC address of 12 hexadecimal digits");
    let number = u64::from_str_radix(text, 16).with_context(wrong)?;
    let mac = number.to_be_bytes();
    Ok([mac[2], mac[3], mac[4], mac[5], mac[6], mac[7]])
}
