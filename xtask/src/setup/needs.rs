//! Programs and headers that must be on the machine, and the packages that bring them.

use std::{fmt, path::Path};

use super::Parts;
use crate::cmd;

/// How to see whether it is there.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// A program on the `PATH`.
    Program(&'static str),
    /// A C header.
    Header(&'static str),
}

/// One thing that must be there.
#[derive(Debug)]
pub struct Need {
    probe: Probe,
    why: &'static str,
    /// Package of Debian.
    pub debian: &'static str,
    /// Package of Fedora, for those who read the list there.
    pub fedora: &'static str,
}

impl Need {
    const fn program(
        name: &'static str,
        why: &'static str,
        debian: &'static str,
        fedora: &'static str,
    ) -> Self {
        Need {
            probe: Probe::Program(name),
            why,
            debian,
            fedora,
        }
    }

    const fn header(
        name: &'static str,
        why: &'static str,
        debian: &'static str,
        fedora: &'static str,
    ) -> Self {
        Need {
            probe: Probe::Header(name),
            why,
            debian,
            fedora,
        }
    }

    /// `program clang`.
    pub fn what(&self) -> String {
        match self.probe {
            Probe::Program(name) => format!("program {name}"),
            Probe::Header(name) => format!("header {name}"),
        }
    }

    fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(name) => cmd::find_program(name).is_some(),
            Probe::Header(name) => {
                let include = Path::new("/usr/include");
                include.join(name).exists()
                    || include
                        .join(format!("{}-linux-gnu", std::env::consts::ARCH))
                        .join(name)
                        .exists()
            }
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.what(), self.why)
    }
}

const BUILD: &[Need] = &[
    Need::program("gcc", "links, and compiles libbpf", "gcc", "gcc"),
    Need::header("stdio.h", "libbpf and libxdp", "libc6-dev", "glibc-devel"),
    Need::program("make", "builds libbpf", "make", "make"),
    Need::program(
        "pkg-config",
        "builds libbpf",
        "pkg-config",
        "pkgconf-pkg-config",
    ),
    Need::program("m4", "builds libxdp", "m4", "m4"),
    Need::program(
        "clang",
        "compiles libxdp and reads its headers",
        "clang",
        "clang",
    ),
    Need::header("gelf.h", "libbpf", "libelf-dev", "elfutils-libelf-devel"),
    Need::header("zlib.h", "libbpf", "zlib1g-dev", "zlib-ng-compat-devel"),
];

const LABS: &[Need] = &[
    Need::program("ip", "raises the labs", "iproute2", "iproute"),
    Need::program("sysctl", "raises the labs", "procps", "procps-ng"),
    Need::program(
        "ethtool",
        "queues and offloads of the labs",
        "ethtool",
        "ethtool",
    ),
    Need::program(
        "nft",
        "NAT and firewalls of the labs",
        "nftables",
        "nftables",
    ),
    Need::program("sipp", "callers and servers", "sip-tester", "sipp"),
    Need::program("kamailio", "registrar of the labs", "kamailio", "kamailio"),
    Need::program("kamcmd", "asks the registrar", "kamailio", "kamailio"),
    Need::program("baresip", "phones of the labs", "baresip-core", "baresip"),
    Need::program(
        "dnsmasq",
        "name server of the labs",
        "dnsmasq-base",
        "dnsmasq",
    ),
    Need::program("bird", "routers of the labs", "bird2", "bird"),
    Need::program("exabgp", "announces in a lab", "exabgp", "exabgp"),
    Need::program("vtysh", "reads the file for FRR", "frr", "frr"),
    Need::program("chromium", "looks at the page", "chromium", "chromium"),
    Need::program("tshark", "reads what was sent", "tshark", "wireshark-cli"),
    Need::program("sngrep", "reads captures and HEP", "sngrep", "sngrep"),
    Need::program("tcpdump", "records what was sent", "tcpdump", "tcpdump"),
    Need::program(
        "promtool",
        "checks metrics",
        "prometheus",
        "golang-github-prometheus",
    ),
    Need::program(
        "prometheus",
        "reads metrics",
        "prometheus",
        "golang-github-prometheus",
    ),
    Need::program(
        "bpftool",
        "looks at the XDP program from outside",
        "bpftool",
        "bpftool",
    ),
];

const BENCH: &[Need] = &[Need::program(
    "valgrind",
    "counts instructions",
    "valgrind",
    "valgrind",
)];

const FUZZ: &[Need] = &[Need::program("c++", "compiles libFuzzer", "g++", "gcc-c++")];

/// What is not there.
pub fn missing(parts: Parts) -> Vec<&'static Need> {
    let labs = if parts.labs { LABS } else { &[] };
    let bench = if parts.bench { BENCH } else { &[] };
    let fuzz = if parts.fuzz { FUZZ } else { &[] };
    BUILD
        .iter()
        .chain(labs)
        .chain(bench)
        .chain(fuzz)
        .filter(|need| !need.is_there())
        .collect()
}
