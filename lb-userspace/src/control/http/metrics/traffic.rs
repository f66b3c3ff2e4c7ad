//! Messages and datagrams: what workers and XDP programs have counted.

use std::collections::BTreeMap;

use lb_common::xdp::{MAX_QUEUES, XdpOutcome, XdpVerdict, counter_index};

use super::encoder::Encoder;
use crate::{
    nat::{Fix, Indicator},
    stats::{Counter, Histogram, Worker, report, sources::InterfaceCounts},
    validate::Reason,
};

pub(super) fn write(out: &mut Encoder, workers: &[Worker], interfaces: &[InterfaceCounts]) {
    messages(out, workers);
    outcomes(out, workers);
    nat(out, workers);
    datagrams(out, workers);
    driven(out, workers);
    sockets(out, workers);
    xdp(out, interfaces);
}

/// Those that there were: all that could be are a thousand.
fn messages(out: &mut Encoder, workers: &[Worker]) {
    let messages = report::messages(workers);
    let (requests, responses): (Vec<_>, Vec<_>) = messages
        .iter()
        .partition(|message| message.class == "request");
    let mut family = out.counter(
        "siplb_requests",
        "Requests by where they came from (client, backend) and went to (client, backend, nobody) and method.",
    );
    for message in requests {
        let labels = [
            ("from", message.from.as_str()),
            ("to", &message.to),
            ("method", &message.method),
        ];
        family.sample(&labels, message.count);
    }
    let mut family = out.counter(
        "siplb_responses",
        "Responses by where they came from (client, backend, siplb) and went to, method and class.",
    );
    for message in responses {
        let labels = [
            ("from", message.from.as_str()),
            ("to", &message.to),
            ("method", &message.method),
            ("class", &message.class),
        ];
        family.sample(&labels, message.count);
    }
}

fn outcomes(out: &mut Encoder, workers: &[Worker]) {
    let mut sums = BTreeMap::new();
    for outcome in workers.iter().flat_map(|worker| &worker.outcomes) {
        let key = (outcome.kind.as_str(), outcome.name.as_str());
        *sums.entry(key).or_insert(0) += outcome.value;
    }
    let mut family = out.counter(
        "siplb_outcomes",
        "What became of datagrams: sent on (forward), answered (reply), dropped or absorbed.",
    );
    for ((kind, outcome), count) in sums {
        family.sample(&[("kind", kind), ("outcome", outcome)], count);
    }
    let mut reasons = out.counter(
        "siplb_invalid_requests",
        "Requests that were refused or marked because they are not well-formed, by reason.",
    );
    for reason in Reason::ALL {
        reasons.sample(&[("reason", reason.name())], sum(workers, reason.name()));
    }
}

fn nat(out: &mut Encoder, workers: &[Worker]) {
    out.counter(
        "siplb_nat_clients",
        "Messages of clients that an indicator of far-end NAT matched.",
    )
    .sample(&[], total(workers, Counter::NatMatched));
    let mut indicators = out.counter(
        "siplb_nat_indicator_matches",
        "Messages that an indicator of far-end NAT matched.",
    );
    for indicator in Indicator::ALL {
        let count = total(workers, Counter::of_indicator(indicator));
        indicators.sample(&[("indicator", indicator.name())], count);
    }
    let mut fixes = out.counter("siplb_nat_fixes", "Messages that a fix changed.");
    for fix in Fix::ALL {
        fixes.sample(&[("fix", fix.name())], total(workers, Counter::of_fix(fix)));
    }
    out.counter(
        "siplb_nat_beyond_limits",
        "Messages with more Contacts or SDP than is looked at.",
    )
    .sample(&[], total(workers, Counter::NatBeyondLimits));
}

fn datagrams(out: &mut Encoder, workers: &[Worker]) {
    use Counter as C;
    for (name, help, af_xdp, kernel) in [
        (
            "siplb_received_datagrams",
            "Datagrams that a worker took, from an AF_XDP ring or a socket of the kernel.",
            C::RxAfXdp,
            C::RxKernel,
        ),
        (
            "siplb_received_bytes",
            "Bytes of these: of whole frames, and of payloads where they came by the kernel.",
            C::RxAfXdpBytes,
            C::RxKernelBytes,
        ),
        (
            "siplb_sent_datagrams",
            "Datagrams that a worker sent, by an AF_XDP ring or a socket of the kernel.",
            C::TxAfXdp,
            C::TxKernel,
        ),
        (
            "siplb_sent_bytes",
            "Bytes of these: of whole frames, and of payloads where they left by the kernel.",
            C::TxAfXdpBytes,
            C::TxKernelBytes,
        ),
    ] {
        by_worker(
            out,
            (name, help),
            "path",
            workers,
            &[("af_xdp", af_xdp), ("kernel", kernel)],
        );
    }
    by_worker(
        out,
        (
            "siplb_sent_by_kernel",
            "Datagrams that arrived by AF_XDP and left by the kernel, by the reason.",
        ),
        "reason",
        workers,
        &[
            ("no_route", C::NextHopNoRoute),
            ("no_neighbour", C::NextHopNoNeighbour),
            ("other_interface", C::NextHopOtherInterface),
            ("local", C::NextHopLocal),
            ("larger_than_mtu", C::LargerThanMtu),
            ("no_chunk", C::TxNoChunk),
        ],
    );
    by_worker(
        out,
        (
            "siplb_handover_frames",
            "Frames that a full worker handed over to another one, and those that a worker took over from others.",
        ),
        "way",
        workers,
        &[("handed_over", C::HandedOver), ("taken_over", C::TakenOver)],
    );
    by_worker(
        out,
        (
            "siplb_worker_errors",
            "Datagrams that were not received, handled or sent, by what was wrong.",
        ),
        "error",
        workers,
        &[
            ("tx_ring_full", C::TxRingFull),
            ("handover_full", C::HandoverFull),
            ("kernel_would_block", C::KernelWouldBlock),
            ("kernel_send_error", C::KernelSendError),
            ("kernel_receive_error", C::KernelReceiveError),
            ("frame_not_ours", C::FrameNotOurs),
            ("frame_broken", C::FrameBroken),
            ("bad_udp_checksum", C::BadUdpChecksum),
        ],
    );
}

/// How workers are driven, and how long they take.
fn driven(out: &mut Encoder, workers: &[Worker]) {
    use Counter as C;
    for (name, help, counter) in [
        (
            "siplb_worker_batches",
            "Turns of a worker that found datagrams.",
            C::Batches,
        ),
        (
            "siplb_worker_idle_polls",
            "Turns of a worker that found nothing to do.",
            C::PollIdle,
        ),
    ] {
        let mut family = out.counter(name, help);
        for worker in workers {
            each(worker, |labels| {
                family.sample(labels, worker.counter(counter.name()));
            });
        }
    }
    let mut busy = out.counter(
        "siplb_worker_busy_seconds",
        "Time in turns that found datagrams: its rate is the busy share of a worker.",
    );
    for worker in workers {
        let seconds = worker.counter(C::BusyNs.name()) as f64 / 1e9;
        each(worker, |labels| busy.sample(labels, seconds));
    }
    by_worker(
        out,
        (
            "siplb_worker_system_calls",
            "System calls that make the kernel look at AF_XDP rings.",
        ),
        "call",
        workers,
        &[
            ("tx_kick", C::TxKick),
            ("tx_kick_again", C::TxKickAgain),
            ("fill_wakeup", C::FillWakeup),
        ],
    );
    for (name, help, histogram, scale) in [
        (
            "siplb_batch_duration_seconds",
            "Time of a turn that found datagrams: what one of them spends in a worker at the most.",
            Histogram::BatchDuration,
            1e9,
        ),
        (
            "siplb_batch_datagrams",
            "Datagrams of a turn that found any.",
            Histogram::BatchSize,
            1.0,
        ),
    ] {
        let mut family = out.histogram(name, help);
        for worker in workers {
            let values = worker.histograms.iter();
            for values in values.filter(|values| values.name == histogram.name()) {
                each(worker, |labels| family.distribution(labels, values, scale));
            }
        }
    }
}

/// AF_XDP sockets and their memory; nothing in `mode: socket`.
fn sockets(out: &mut Encoder, workers: &[Worker]) {
    use Counter as C;
    let with_chunks = |worker: &&Worker| worker.counter(C::FramesTotal.name()) > 0;
    let workers = workers.iter().filter(with_chunks);
    let workers = workers.cloned().collect::<Vec<_>>();
    by_worker(
        out,
        (
            "siplb_xsk_events",
            "What AF_XDP sockets count themselves: datagrams dropped, rings found full or empty, descriptors refused.",
        ),
        "event",
        &workers,
        &[
            ("rx_dropped", C::XskRxDropped),
            ("rx_ring_full", C::XskRxRingFull),
            ("fill_ring_empty", C::XskFillRingEmpty),
            ("tx_ring_empty", C::XskTxRingEmpty),
            ("rx_invalid", C::XskRxInvalid),
            ("tx_invalid", C::XskTxInvalid),
        ],
    );
    let mut chunks = out.gauge(
        "siplb_umem_chunks",
        "Where the chunks of a worker's UMEM are: free, in fill rings, received and waiting, on TX or completion rings.",
    );
    for worker in &workers {
        let (queue, cpu) = names(worker);
        for (place, counter) in [
            ("free", C::FramesFree),
            ("fill", C::FramesInFill),
            ("rx", C::FramesInRx),
            ("tx", C::FramesInTx),
        ] {
            let labels = [("queue", queue.as_str()), ("cpu", &cpu), ("place", place)];
            chunks.sample(&labels, worker.counter(counter.name()));
        }
    }
}

/// Those that there were: a queue's packets meet few CPUs.
fn xdp(out: &mut Encoder, interfaces: &[InterfaceCounts]) {
    let mut family = out.counter(
        "siplb_xdp_packets",
        "Packets that the XDP program saw, by outcome and verdict: redirect to the worker, pass to the kernel, drop.",
    );
    for interface in interfaces {
        // The rest of the metrics is worth having without them; `siplb stats` says why they are missing.
        let Ok(counters) = &interface.counters else {
            continue;
        };
        for queue in 0..MAX_QUEUES {
            let queue_name = queue.to_string();
            for outcome in XdpOutcome::ALL {
                let cpus = counters.get(counter_index(queue, outcome) as usize);
                let cpus = cpus.map_or(&[][..], |cpus| cpus).iter().enumerate();
                for (cpu, count) in cpus.filter(|(_, count)| **count > 0) {
                    let cpu = cpu.to_string();
                    let labels = [
                        ("interface", interface.interface.name.as_str()),
                        ("queue", &queue_name),
                        ("cpu", &cpu),
                        ("outcome", outcome.name()),
                        ("verdict", verdict(outcome)),
                    ];
                    family.sample(&labels, *count);
                }
            }
        }
    }
}

fn verdict(outcome: XdpOutcome) -> &'static str {
    match outcome.verdict() {
        XdpVerdict::Redirect => "redirect",
        XdpVerdict::Pass => "pass",
        XdpVerdict::Drop => "drop",
    }
}

/// A family with the same labels and one more for each of some counters.
fn by_worker(
    out: &mut Encoder,
    (name, help): (&'static str, &'static str),
    label: &str,
    workers: &[Worker],
    counters: &[(&str, Counter)],
) {
    let mut family = out.counter(name, help);
    for worker in workers {
        let (queue, cpu) = names(worker);
        for (value, counter) in counters {
            let labels = [("queue", queue.as_str()), ("cpu", &cpu), (label, value)];
            family.sample(&labels, worker.counter(counter.name()));
        }
    }
}

/// Hands on the labels of a worker.
fn each(worker: &Worker, mut write: impl FnMut(&[(&str, &str)])) {
    let (queue, cpu) = names(worker);
    write(&[("queue", &queue), ("cpu", &cpu)]);
}

/// Its queue and its CPU.
fn names(worker: &Worker) -> (String, String) {
    (worker.info.queue.to_string(), worker.info.cpu.to_string())
}

fn total(workers: &[Worker], counter: Counter) -> u64 {
    sum(workers, counter.name())
}

fn sum(workers: &[Worker], name: &str) -> u64 {
    workers.iter().map(|worker| worker.counter(name)).sum()
}
