//! The two programs of the benchmark: loaded, given their work, asked what they counted.

use std::{io, path::Path};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, PerCpuArray},
    programs::{Xdp, XdpMode, xdp::XdpLink},
};
use lb_common::wire::{
    ARRIVALS, ARRIVALS_LEN, GENERATE, RECEIVED, SETTINGS, SINK, Settings, TEMPLATES, Template,
};
use siplb_lab::Host;

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd` in `linux/bpf.h`.
const BPF_PROG_TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`: frames are not only run through the program, what it redirects is really sent.
const LIVE_FRAMES: u32 = 1 << 1;

/// Makes frames as fast as one CPU can.
pub struct Generator {
    ebpf: Ebpf,
}

impl Generator {
    /// Loads it. The frames leave by the interface with this index, of the host that [`Runner::run`] is called in.
    ///
    /// # Errors
    ///
    /// When the object cannot be read or the verifier refuses it.
    pub fn load(object: &Path, interface: u32) -> Result<Self> {
        let mut ebpf = load(object)?;
        let program: &mut Xdp = ebpf.program_mut(GENERATE).context(GENERATE)?.try_into()?;
        program.load()?;
        let mut generator = Self { ebpf };
        let mut settings = generator.settings()?;
        settings.interface = interface;
        generator.set_settings(settings)?;
        Ok(generator)
    }

    /// Which frames to make, in turns.
    ///
    /// # Errors
    ///
    /// When the maps cannot be written.
    pub fn set_templates(&mut self, templates: &[Template]) -> Result<()> {
        let map = self.ebpf.map_mut(TEMPLATES).context(TEMPLATES)?;
        let mut map: Array<_, Template> = Array::try_from(map)?;
        for (index, template) in templates.iter().enumerate() {
            map.set(index as u32, template, 0)?;
        }
        let mut settings = self.settings()?;
        settings.templates = templates.len() as u32;
        self.set_settings(settings)
    }

    /// How many frames it has made.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn made(&self) -> Result<u64> {
        Ok(self.settings()?.next)
    }

    /// What a thread needs to run it.
    ///
    /// # Errors
    ///
    /// When the program is not loaded.
    pub fn runner(&self, first: &Template) -> Result<Runner> {
        use std::os::fd::{AsFd, AsRawFd};
        let program: &Xdp = self.ebpf.program(GENERATE).context(GENERATE)?.try_into()?;
        Ok(Runner {
            program: program.fd()?.as_fd().as_raw_fd(),
            frame: first.bytes[..first.len as usize].to_vec(),
        })
    }

    fn settings(&self) -> Result<Settings> {
        let map = self.ebpf.map(SETTINGS).context(SETTINGS)?;
        let map: Array<_, Settings> = Array::try_from(map)?;
        Ok(map.get(&0, 0)?)
    }

    fn set_settings(&mut self, settings: Settings) -> Result<()> {
        let map = self.ebpf.map_mut(SETTINGS).context(SETTINGS)?;
        let mut map: Array<_, Settings> = Array::try_from(map)?;
        Ok(map.set(0, settings, 0)?)
    }
}

/// Runs the generator's program; the [`Generator`] lives longer.
#[derive(Clone)]
pub struct Runner {
    program: i32,
    frame: Vec<u8>,
}

impl Runner {
    /// Makes and sends so many frames.
    ///
    /// # Errors
    ///
    /// Those of the system call; the kernel has live frames since 5.18.
    pub fn run(&self, frames: u32) -> io::Result<()> {
        /// The part of `union bpf_attr` that is for this command.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            program: u32,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            ctx_size_in: u32,
            ctx_size_out: u32,
            ctx_in: u64,
            ctx_out: u64,
            flags: u32,
            cpu: u32,
            batch_size: u32,
            padding: u32,
        }
        let mut attributes = Attributes {
            program: self.program as u32,
            data_size_in: self.frame.len() as u32,
            data_in: self.frame.as_ptr() as u64,
            repeat: frames,
            flags: LIVE_FRAMES,
            ..Attributes::default()
        };
        // SAFETY: the attributes live until the call returns, and so does the frame that they point to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        match result {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Counts what arrives at an interface, and drops it, until it is dropped itself.
pub struct Sink {
    ebpf: Ebpf,
    _link: XdpLink,
}

impl Sink {
    /// Attaches it in the driver.
    ///
    /// # Errors
    ///
    /// When the object cannot be read, or the interface does not take it.
    pub fn attach(object: &Path, host: &Host, interface: &str) -> Result<Self> {
        let mut ebpf = load(object)?;
        let program: &mut Xdp = ebpf.program_mut(SINK).context(SINK)?.try_into()?;
        program.load()?;
        let link = host
            .enter(|| -> Result<XdpLink> {
                let link = program.attach(interface, XdpMode::Driver)?;
                Ok(program.take_link(link)?)
            })?
            .with_context(|| format!("sink at {interface}"))?;
        Ok(Self { ebpf, _link: link })
    }

    /// Datagrams that have arrived.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn received(&self) -> Result<u64> {
        let map = self.ebpf.map(RECEIVED).context(RECEIVED)?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }

    /// Notes from now on when stamped frames arrive.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn note_arrivals(&mut self) -> Result<()> {
        let map = self.ebpf.map_mut(SETTINGS).context(SETTINGS)?;
        let mut map: Array<_, Settings> = Array::try_from(map)?;
        let settings = Settings {
            notes_arrivals: 1,
            ..Settings::default()
        };
        Ok(map.set(0, settings, 0)?)
    }

    /// When the frames with these stamps arrived: nanoseconds of the monotonic clock, 0 for never.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn arrivals(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map(ARRIVALS).context(ARRIVALS)?;
        let map: Array<_, u64> = Array::try_from(map)?;
        (0..ARRIVALS_LEN)
            .map(|index| Ok(map.get(&index, 0)?))
            .collect()
    }
}

fn load(object: &Path) -> Result<Ebpf> {
    Ebpf::load_file(object).with_context(|| format!("cannot load {}", object.display()))
}
