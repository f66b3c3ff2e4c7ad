//! The compiled XDP program in the kernel: every outcome under `BPF_PROG_RUN`, and the loader on a veth pair.
//!
//! Needs root. Each test runs in network and mount namespaces of its own with a BPF file system of its own, so nothing
//! of it stays behind and any number of them can run at a time.

#[path = "xdp_program/frames.rs"]
mod frames;
#[path = "xdp_program/namespace.rs"]
mod namespace;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, XskMap},
    programs::{TestRun, TestRunOptions, Xdp, XdpMode},
};
use lb_common::xdp::{
    COUNTERS, GATES, Gate, MAX_QUEUES, PROGRAM, VIPS, VipKey, XSKS, XdpOutcome, XdpVerdict,
    counter_index, station,
};
use lb_userspace::{
    afxdp::program::{AttachMode, OBJECT, Program, pin_dir, read_counters, read_gates},
    config::WantedAttach,
};

use frames::{Frame, STATION};
use namespace::{AfXdpSocket, PacketSocket, ip, ip_output, isolated, monotonic_ns};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

const STALE_AFTER: Duration = Duration::from_millis(250);

fn verdict_code(outcome: XdpOutcome) -> u32 {
    match outcome.verdict() {
        XdpVerdict::Drop => XDP_DROP,
        XdpVerdict::Pass => XDP_PASS,
        XdpVerdict::Redirect => XDP_REDIRECT,
    }
}

/// The counters that are not 0, by queue and name, summed over the CPUs.
fn counted(values: &[Vec<u64>]) -> BTreeMap<(u32, &'static str), u64> {
    let mut counted = BTreeMap::new();
    for queue in 0..MAX_QUEUES {
        for outcome in XdpOutcome::ALL {
            let sum = values[counter_index(queue, outcome) as usize].iter().sum();
            if sum > 0 {
                counted.insert((queue, outcome.name()), sum);
            }
        }
    }
    counted
}

/// The program without an interface, run with frames from here.
struct Bench {
    ebpf: Ebpf,
}

impl Bench {
    fn new() -> Self {
        let mut ebpf = EbpfLoader::new()
            .override_global("AYA_LOG_LEVEL", &0u8, true)
            .load(OBJECT)
            .expect("the XDP object loads");
        let xdp: &mut Xdp = ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
        xdp.load().expect("the verifier accepts the program");
        let mut vips: HashMap<_, VipKey, u32> =
            HashMap::try_from(ebpf.map_mut(VIPS).unwrap()).unwrap();
        for vip in [frames::V4_VIP, frames::V6_VIP] {
            vips.insert(VipKey::new(vip), 0, 0).unwrap();
        }
        let mut bench = Self { ebpf };
        for queue in 0..MAX_QUEUES {
            bench.set_gate(queue, bench.open_gate());
        }
        bench
    }

    fn open_gate(&self) -> Gate {
        Gate {
            open: 1,
            stale_after_ms: 60_000,
            heartbeat_ns: monotonic_ns(),
            station: station(STATION),
            ..Gate::default()
        }
    }

    fn set_gate(&mut self, queue: u32, gate: Gate) {
        let mut gates: Array<_, Gate> = Array::try_from(self.ebpf.map_mut(GATES).unwrap()).unwrap();
        gates.set(queue, gate, 0).unwrap();
    }

    fn set_socket(&mut self, queue: u32, socket: &AfXdpSocket) {
        let mut sockets = XskMap::try_from(self.ebpf.map_mut(XSKS).unwrap()).unwrap();
        sockets.set(queue, socket.as_fd().as_raw_fd(), 0).unwrap();
    }

    /// Runs the program once and says what it returned and what it counted.
    fn run(&mut self, frame: &[u8], context: Option<&[u8]>) -> (u32, Vec<(u32, &'static str)>) {
        let before = self.counters();
        let xdp: &Xdp = self.ebpf.program(PROGRAM).unwrap().try_into().unwrap();
        let mut out = vec![0; frame.len() + 256];
        let result = xdp
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: context,
                ..TestRunOptions::new()
            })
            .expect("BPF_PROG_RUN");
        let len = result.data_size_out as usize;
        assert_eq!(&out[..len], frame, "the program changes no frame");
        let after = self.counters();
        let changed = after
            .into_iter()
            .flat_map(|(key, value)| {
                let more = value - before.get(&key).copied().unwrap_or(0);
                std::iter::repeat_n(key, more as usize)
            })
            .collect();
        (result.return_value, changed)
    }

    fn counters(&self) -> BTreeMap<(u32, &'static str), u64> {
        let counters: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(COUNTERS).unwrap()).unwrap();
        let values: Vec<Vec<u64>> = counters.iter().map(|it| it.unwrap().to_vec()).collect();
        counted(&values)
    }

    #[track_caller]
    fn check(&mut self, name: &str, frame: &Frame, outcome: XdpOutcome) {
        self.check_on(name, frame, None, 0, outcome);
    }

    #[track_caller]
    fn check_on(
        &mut self,
        name: &str,
        frame: &Frame,
        context: Option<&[u8]>,
        row: u32,
        outcome: XdpOutcome,
    ) {
        assert_eq!(
            self.run(frame.bytes(), context),
            (verdict_code(outcome), vec![(row, outcome.name())]),
            "{name}"
        );
    }
}

#[test]
fn every_frame_has_its_verdict_and_is_counted_under_one_name() {
    isolated(|_| {
        use XdpOutcome::*;
        let socket = AfXdpSocket::new();
        let mut bench = Bench::new();
        bench.set_socket(0, &socket);
        let v4 = Frame::ipv4;
        let v6 = Frame::ipv6;
        let cases = [
            ("IPv4", v4(), Steered),
            ("IPv6", v6(), Steered),
            ("IPv4 in a VLAN", v4().tagged(), Steered),
            ("IPv6 in a VLAN", v6().tagged(), Steered),
            ("IPv4 with options", Frame::ipv4_with_options(), Steered),
            ("padded", v4().padded(30), Steered),
            ("without payload", v4().payload(b""), Steered),
            (
                "keepalive, padded",
                v4().payload(b"\r\n").padded(16),
                Steered,
            ),
            ("without a UDP checksum", v4().set_l4(6, &[0, 0]), Steered),
            (
                "another port",
                v4().set_l4(2, &5061u16.to_be_bytes()),
                NotVip,
            ),
            ("another address", v4().set_l3(19, &[11]), NotVip),
            ("another address, IPv6", v6().set_l3(39, &[0x11]), NotVip),
            (
                "broken for another port",
                v4().set_l4(2, &[0, 53, 0, 1]),
                NotVip,
            ),
            ("TCP", v4().set_l3(9, &[6]), NotUdp),
            ("ICMP", v4().set_l3(9, &[1]), NotUdp),
            ("ICMPv6", v6().set_l3(6, &[58]), NotUdp),
            ("ARP", v4().set(12, &[0x08, 0x06]), EtherType),
            ("LLDP", v4().set(12, &[0x88, 0xcc]), EtherType),
            ("two tags", v4().tagged().tagged(), QinQ),
            ("a service tag", v4().tagged().set(12, &[0x88, 0xa8]), QinQ),
            ("first fragment", v4().set_l3(6, &[0x20, 0]), Fragment),
            ("later fragment", v4().set_l3(6, &[0x00, 0x40]), Fragment),
            ("fragment, IPv6", v6().set_l3(6, &[44]), Fragment),
            ("hop-by-hop", v6().set_l3(6, &[0]), ExtensionHeader),
            (
                "destination options",
                v6().set_l3(6, &[60]),
                ExtensionHeader,
            ),
            (
                "from loopback",
                v4().set_l3(12, &[127, 0, 0, 1]),
                MartianSource,
            ),
            (
                "from ::1",
                v6().set_l3(8, &1u128.to_be_bytes()),
                MartianSource,
            ),
            ("to another station", v4().set(5, &[9]), OtherStation),
            ("to all stations", v4().set(0, &[0xff; 6]), OtherStation),
            (
                "broken, another station",
                v4().set_l4(4, &[0, 7]).set(5, &[9]),
                OtherStation,
            ),
            ("header length 16", v4().set_l3(0, &[0x44]), Unreadable),
            ("version 5", v4().set_l3(0, &[0x55]), Unreadable),
            ("cut before the ports", v4().cut_to(36), Unreadable),
            ("cut before the ports, IPv6", v6().cut_to(56), Unreadable),
            ("cut behind the ports", v4().cut_to(38), Truncated),
            ("cut in the payload", v4().cut_to(60), Truncated),
            ("cut in the payload, IPv6", v6().cut_to(80), Truncated),
            ("IP length 24", v4().set_l3(2, &[0, 24]), BadIpLength),
            ("payload length 4", v6().set_l3(4, &[0, 4]), BadIpLength),
            ("wrong header checksum", v4().spoil_l3(8), BadIpChecksum),
            (
                "wrong option",
                Frame::ipv4_with_options().spoil_l3(22),
                BadIpChecksum,
            ),
            ("UDP length 7", v4().set_l4(4, &[0, 7]), BadUdpLength),
            ("UDP length 0, IPv6", v6().set_l4(4, &[0, 0]), BadUdpLength),
            ("UDP length too long", v4().set_l4(4, &[1, 0]), BadUdpLength),
            ("from port 0", v4().set_l4(0, &[0, 0]), SourcePortZero),
            (
                "no UDP checksum, IPv6",
                v6().set_l4(6, &[0, 0]),
                NoUdpChecksum,
            ),
        ];
        let mut seen: Vec<XdpOutcome> = vec![GateClosed, GateStale, NoSocket, QueueOutOfRange];
        for (name, frame, outcome) in cases {
            bench.check(name, &frame, outcome);
            seen.push(outcome);
        }
        for outcome in XdpOutcome::ALL {
            assert!(seen.contains(&outcome), "no case for {}", outcome.name());
        }
    });
}

#[test]
fn a_frame_cut_at_any_length_does_no_harm() {
    isolated(|_| {
        let socket = AfXdpSocket::new();
        let mut bench = Bench::new();
        bench.set_socket(0, &socket);
        for whole in [
            Frame::ipv4(),
            Frame::ipv4().tagged(),
            Frame::ipv4_with_options(),
            Frame::ipv6(),
            Frame::ipv6().tagged(),
        ] {
            // BPF_PROG_RUN takes no frame without a whole Ethernet header.
            for len in 14..whole.bytes().len() {
                let (verdict, counted) = bench.run(whole.clone().cut_to(len).bytes(), None);
                let expected = match counted.as_slice() {
                    [(0, "unreadable")] => XDP_PASS,
                    [(0, "truncated")] => XDP_DROP,
                    other => panic!("cut to {len}: {other:?}"),
                };
                assert_eq!(verdict, expected, "cut to {len}");
            }
        }
    });
}

#[test]
fn a_gate_steers_only_while_it_is_open_and_its_worker_alive() {
    isolated(|_| {
        use XdpOutcome::*;
        let socket = AfXdpSocket::new();
        let mut bench = Bench::new();
        let datagram = Frame::ipv4();
        bench.check("no socket yet", &datagram, NoSocket);
        bench.set_socket(0, &socket);
        bench.check("with a socket", &datagram, Steered);

        let open = bench.open_gate();
        let second = 1_000_000_000;
        let cases = [
            ("closed", Gate { open: 0, ..open }, GateClosed),
            (
                "never written",
                Gate {
                    station: open.station,
                    ..Gate::default()
                },
                GateClosed,
            ),
            (
                "heartbeat too old",
                Gate {
                    heartbeat_ns: open.heartbeat_ns - second,
                    stale_after_ms: 900,
                    ..open
                },
                GateStale,
            ),
            (
                "heartbeat old enough",
                Gate {
                    heartbeat_ns: open.heartbeat_ns - second,
                    stale_after_ms: 60_000,
                    ..open
                },
                Steered,
            ),
            (
                "heartbeat ahead of the coarse clock",
                Gate {
                    heartbeat_ns: open.heartbeat_ns + second,
                    stale_after_ms: 1,
                    ..open
                },
                Steered,
            ),
            (
                "no heartbeat yet",
                Gate {
                    heartbeat_ns: 0,
                    stale_after_ms: 1,
                    ..open
                },
                GateStale,
            ),
            ("no station", Gate { station: 0, ..open }, OtherStation),
        ];
        for (name, gate, outcome) in cases {
            bench.set_gate(0, gate);
            bench.check(name, &datagram, outcome);
        }
        // What is broken and ours is dropped, gate or no gate; what is not ours passes.
        bench.set_gate(0, Gate { open: 0, ..open });
        bench.check("broken", &Frame::ipv4().set_l4(4, &[0, 7]), BadUdpLength);
        bench.check("not ours", &Frame::ipv4().set_l3(9, &[6]), NotUdp);

        // The socket goes, as when its process dies.
        bench.set_gate(0, open);
        drop(socket);
        bench.check("socket closed", &datagram, NoSocket);
    });
}

#[test]
fn queues_have_rows_and_gates_of_their_own() {
    isolated(|_| {
        let queues = MAX_QUEUES + 2;
        ip(&format!(
            "link add many numrxqueues {queues} numtxqueues {queues} type veth peer name other numrxqueues {queues} \
             numtxqueues {queues}"
        ));
        ip("link set dev many up");
        ip("link set dev other up");
        let mut bench = Bench::new();
        let index = namespace::interface_index("many");
        // Attached only because the queues of a veth are not set up for XDP otherwise.
        let xdp: &mut Xdp = bench.ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
        xdp.attach_to_if_index(index, XdpMode::Driver).unwrap();

        let socket = AfXdpSocket::new();
        bench.set_socket(3, &socket);
        let closed = Gate {
            open: 0,
            ..bench.open_gate()
        };
        bench.set_gate(2, closed);
        let datagram = Frame::ipv4();
        let cases = [
            (0, 0, XdpOutcome::NoSocket),
            (2, 2, XdpOutcome::GateClosed),
            (3, 3, XdpOutcome::Steered),
            (63, 63, XdpOutcome::NoSocket),
            (64, 63, XdpOutcome::QueueOutOfRange),
            (65, 63, XdpOutcome::QueueOutOfRange),
        ];
        for (queue, row, outcome) in cases {
            let context = frames::context(datagram.bytes().len(), index, queue);
            bench.check_on(
                &format!("queue {queue}"),
                &datagram,
                Some(&context),
                row,
                outcome,
            );
        }
    });
}

/// A veth pair with the program on one end, and a way to put frames in at the other.
struct Wire {
    pin_path: PathBuf,
    peer: PacketSocket,
    /// Sees what the program passes to the kernel.
    kernel: PacketSocket,
}

impl Wire {
    fn new(bpffs: &Path) -> Self {
        Self::recreate_veth();
        Self {
            pin_path: bpffs.join("siplb").join("node"),
            peer: PacketSocket::new("peer0"),
            kernel: PacketSocket::new("edge0"),
        }
    }

    fn recreate_veth() {
        ip("link add edge0 type veth peer name peer0");
        ip(&format!(
            "link set dev edge0 address {}",
            frames::mac_text(STATION)
        ));
        for device in ["edge0", "peer0"] {
            ip(&format!("link set dev {device} up"));
        }
    }

    fn pins(&self) -> PathBuf {
        pin_dir(&self.pin_path, "edge0")
    }

    fn attach(&self, wanted: WantedAttach) -> Program {
        Program::attach("edge0", &self.pins(), wanted, false).unwrap_or_else(|error| {
            panic!("{error:?}");
        })
    }

    /// Sends a frame to the program and waits until the kernel gets it.
    fn send(&self, frame: &Frame) {
        self.peer.send(frame.bytes());
        self.kernel.wait_for(frame.bytes());
    }

    fn counted(&self) -> BTreeMap<(u32, &'static str), u64> {
        counted(&read_counters(&self.pins()).unwrap())
    }

    #[track_caller]
    fn assert_counted(&self, name: &'static str, expected: u64) {
        let counted = self.counted();
        let sum: u64 = counted
            .iter()
            .filter(|((_, it), _)| *it == name)
            .map(|(_, value)| value)
            .sum();
        assert_eq!(sum, expected, "{name} of {counted:?}");
    }
}

/// The id of the XDP program on `edge0` and its mode, as iproute2 sees it.
fn attached() -> Option<(u64, String)> {
    let text = ip_output("-json -details link show dev edge0");
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    let xdp = links[0].get("xdp")?;
    let mode = match xdp["mode"].as_u64()? {
        1 => "native",
        2 => "generic",
        other => panic!("mode {other}"),
    };
    Some((xdp["prog"]["id"].as_u64()?, mode.to_owned()))
}

fn vip() -> SocketAddr {
    let [.., a, b, c, d] = frames::V4_VIP.address;
    SocketAddr::from(([a, b, c, d], frames::V4_VIP.port))
}

#[test]
fn the_program_counts_real_frames_by_gate_and_vip() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        let mut program = wire.attach(WantedAttach::Auto);
        assert_eq!(program.attach_mode(), AttachMode::Native);
        assert_eq!(program.fallback_reason(), None);
        let gates = program.gates();

        wire.send(&Frame::ipv4());
        wire.assert_counted("not_vip", 1);

        program
            .set_vips(&[vip(), "[2001:db8:ff::10]:5060".parse().unwrap()])
            .unwrap();
        wire.send(&Frame::ipv4());
        wire.send(&Frame::ipv6());
        wire.assert_counted("gate_closed", 2);
        assert!(!gates.is_open(0));

        gates.open(0, STALE_AFTER);
        wire.send(&Frame::ipv4());
        wire.assert_counted("gate_stale", 1);

        // An hour is longer than any test machine stands still.
        gates.open(0, Duration::from_secs(3600));
        gates.beat(0, monotonic_ns());
        assert!(gates.is_open(0) && gates.heartbeat_ns(0) > 0);
        wire.send(&Frame::ipv4());
        wire.assert_counted("no_socket", 1);
        let read = read_gates(&wire.pins()).unwrap();
        assert_eq!((read[0].open, read[0].stale_after_ms), (1, 3_600_000));
        assert_eq!(read[0].station, station(STATION));
        assert_eq!(read[1].open, 0);

        gates.close(0);
        wire.send(&Frame::ipv4());
        wire.assert_counted("gate_closed", 3);

        program
            .set_vips(&["[2001:db8:ff::10]:5060".parse().unwrap()])
            .unwrap();
        wire.send(&Frame::ipv4());
        wire.send(&Frame::ipv6());
        wire.assert_counted("not_vip", 2);
        wire.assert_counted("gate_closed", 4);

        // Beyond the last queue there is no gate to open and no socket to set.
        gates.open(MAX_QUEUES, STALE_AFTER);
        assert!(!gates.is_open(MAX_QUEUES));
        let error = program
            .set_socket(MAX_QUEUES, wire.peer.as_fd())
            .unwrap_err();
        assert!(format!("{error:#}").contains("ethtool -L"), "{error:#}");
        program.detach().unwrap();
    });
}

#[test]
fn the_program_outlives_its_process_and_the_next_one_takes_over_its_link() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        let mut first = wire.attach(WantedAttach::Auto);
        first.set_vips(&[vip()]).unwrap();
        let gates = first.gates();
        gates.open(0, STALE_AFTER);
        let first_attached = attached().unwrap();
        wire.send(&Frame::ipv4());
        wire.assert_counted("gate_stale", 1);

        // As after a crash: nobody closes or removes anything.
        drop(first);
        assert_eq!(attached().unwrap(), first_attached);
        wire.send(&Frame::ipv4());
        wire.assert_counted("gate_stale", 2);

        let second = wire.attach(WantedAttach::Auto);
        let second_attached = attached().unwrap();
        assert_ne!(second_attached.0, first_attached.0, "another program");
        assert_eq!(second_attached.1, "native");
        assert!(
            !gates.is_open(0),
            "the gates are closed when a process takes over"
        );
        wire.send(&Frame::ipv4());
        wire.assert_counted("gate_stale", 2);
        wire.assert_counted("gate_closed", 1);

        second.detach().unwrap();
        assert_eq!(attached(), None);
        assert!(!wire.pin_path.exists(), "nothing stays pinned");
        assert!(read_counters(&wire.pins()).is_err());
        drop(gates);

        wire.attach(WantedAttach::Native).detach().unwrap();
        assert_eq!(attached(), None);
    });
}

#[test]
fn the_wanted_mode_is_had_whatever_an_earlier_run_left() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        let cases = [
            (WantedAttach::Generic, AttachMode::Generic, false),
            // Auto keeps the link, which is generic, and says so.
            (WantedAttach::Auto, AttachMode::Generic, true),
            (WantedAttach::Native, AttachMode::Native, false),
            (WantedAttach::Auto, AttachMode::Native, false),
            (WantedAttach::Generic, AttachMode::Generic, false),
        ];
        for (wanted, mode, has_reason) in cases {
            let program = wire.attach(wanted);
            assert_eq!(program.attach_mode(), mode, "{wanted:?}");
            assert_eq!(attached().unwrap().1, mode.name(), "{wanted:?}");
            assert_eq!(
                program.fallback_reason().is_some(),
                has_reason,
                "{wanted:?}"
            );
        }
    });
}

#[test]
fn a_driver_that_refuses_gets_the_generic_program_and_the_reason_is_kept() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        // More than a page of the peer's frames cannot be had in native mode.
        for device in ["edge0", "peer0"] {
            ip(&format!("link set dev {device} mtu 9000"));
        }
        let error = Program::attach("edge0", &wire.pins(), WantedAttach::Native, false)
            .map(|_| ())
            .unwrap_err();
        assert!(format!("{error:#}").contains("mtu 1500"), "{error:#}");
        assert!(!wire.pin_path.exists(), "a failed attempt leaves no pins");

        let program = wire.attach(WantedAttach::Auto);
        assert_eq!(program.attach_mode(), AttachMode::Generic);
        let reason = program.fallback_reason().unwrap();
        assert!(reason.contains("mtu 1500"), "{reason}");
        program.detach().unwrap();
    });
}

#[test]
fn an_interface_with_another_program_is_refused_with_its_id() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        let mut other = Bench::new();
        let xdp: &mut Xdp = other.ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
        xdp.attach("edge0", XdpMode::Driver).unwrap();
        let id = xdp.info().unwrap().id();

        for wanted in [
            WantedAttach::Auto,
            WantedAttach::Native,
            WantedAttach::Generic,
        ] {
            let error = Program::attach("edge0", &wire.pins(), wanted, false)
                .map(|_| ())
                .unwrap_err();
            let text = format!("{error:#}");
            for part in ["edge0", &format!("program {id} (native)"), "xdp off"] {
                assert!(text.contains(part), "{wanted:?}: {text}");
            }
        }
        assert_eq!(attached().unwrap().0, u64::from(id), "it is left alone");
        assert!(!wire.pin_path.exists(), "a failed attempt leaves no pins");
    });
}

#[test]
fn what_another_version_or_another_life_left_is_taken_over_or_removed() {
    isolated(|bpffs| {
        let wire = Wire::new(bpffs);
        let old_layout = wire.pins().with_file_name("v0");

        // The link of another layout moves on; its maps go.
        drop(wire.attach(WantedAttach::Auto));
        fs::rename(wire.pins(), &old_layout).unwrap();
        let program = wire.attach(WantedAttach::Auto);
        assert_eq!(program.attach_mode(), AttachMode::Native);
        assert!(!old_layout.exists());
        wire.send(&Frame::ipv4());
        wire.assert_counted("not_vip", 1);
        drop(program);

        // A map of another shape is replaced.
        let counters = wire.pins().join(COUNTERS);
        fs::remove_file(&counters).unwrap();
        let strange: Array<MapData, u32> = Array::create(3, 0).unwrap();
        strange.pin(&counters).unwrap();
        drop(wire.attach(WantedAttach::Auto));
        wire.send(&Frame::ipv4());
        wire.assert_counted("not_vip", 1);

        // The interface went away under a pinned link, and there is a new one of its name.
        ip("link delete edge0");
        Wire::recreate_veth();
        let program = wire.attach(WantedAttach::Native);
        assert_eq!(attached().unwrap().1, "native");
        program.detach().unwrap();

        // It goes away under a running program.
        let program = wire.attach(WantedAttach::Native);
        ip("link delete edge0");
        program.detach().unwrap();
        assert!(!wire.pin_path.exists());
    });
}

#[test]
fn a_missing_bpf_file_system_is_mounted() {
    isolated(|_| {
        // As in `ip netns exec`: a new sysfs hides what was mounted below the old one.
        namespace::mount("sysfs", "/sys");
        Wire::recreate_veth();
        let pins = pin_dir(Path::new("/sys/fs/bpf/siplb/node"), "edge0");
        let program = Program::attach("edge0", &pins, WantedAttach::Auto, false).unwrap();
        assert_eq!(read_gates(&pins).unwrap().len(), MAX_QUEUES as usize);
        program.detach().unwrap();
        assert!(!pins.parent().unwrap().parent().unwrap().exists());
    });
}

#[test]
fn refusals_name_the_thing_and_the_remedy() {
    isolated(|bpffs| {
        Wire::recreate_veth();
        let cases = [
            ("none0", bpffs.join("n/none0/v1"), "ip link show dev none0"),
            ("lo", bpffs.join("n/lo/v1"), "Ethernet"),
            ("edge0", bpffs.join("node.1/edge0/v1"), "datapath.pin_path"),
            (
                "edge0",
                PathBuf::from("/tmp/siplb/edge0/v1"),
                "mount -t bpf bpf /tmp",
            ),
        ];
        for (interface, pins, part) in cases {
            let error = Program::attach(interface, &pins, WantedAttach::Auto, false)
                .map(|_| ())
                .unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(part), "{text}");
        }
    });
}

/// Hands the records of the `log` crate to the test that listens.
struct Records(mpsc::Sender<String>);

impl log::Log for Records {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Nobody listens any more when the test is over.
        let _ = self.0.send(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn the_debug_log_tells_every_frame_when_it_is_on() {
    isolated(|bpffs| {
        let (sender, records) = mpsc::channel();
        log::set_boxed_logger(Box::new(Records(sender))).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let wire = Wire::new(bpffs);
        let program = Program::attach("edge0", &wire.pins(), WantedAttach::Auto, true).unwrap();
        let frame = Frame::ipv4();
        wire.send(&frame);
        let expected = format!(
            "queue 0, {} bytes: outcome {}",
            frame.bytes().len(),
            XdpOutcome::NotVip as u32
        );
        let deadline = Duration::from_secs(10);
        while records.recv_timeout(deadline).expect("a record in time") != expected {}
        program.detach().unwrap();
    });
}
