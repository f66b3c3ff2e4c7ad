//! Kamailio as the registrar and home proxy of the platform.

use std::{
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    host::{Host, run},
    lab::Lab,
    process::Process,
    wait::until,
};

/// The domain of the phones.
pub const DOMAIN: &str = "home.test";
/// Everything but what differs from lab to lab.
const CONFIGURATION: &str = include_str!("../programs/registrar.cfg");
/// Requests for calls from here need no credentials: the platform's own.
const TRUSTED: &str = "10.0.0.0/24";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The password of every user, as [`Kamailio`] knows it.
pub fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

/// What the registrar makes of a Path (RFC 3327).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathUse {
    /// It knows none: the Contact is all it has.
    None,
    /// It stores a Path, asked for or not.
    Lenient,
    /// It refuses a Path with 420 when the phone does not say that it supports it.
    Strict,
}

/// What differs from lab to lab.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it makes of a Path.
    pub path: PathUse,
    /// Wants credentials from phones, with [`password`].
    pub digest: bool,
    /// Refuses a shorter time with 423, in seconds.
    pub min_expires: Option<u32>,
    /// Tells phones that ask for RFC 5626 to send a keepalive that often, in seconds.
    pub flow_timer: Option<u32>,
}

impl Options {
    /// With digest authentication and nothing else.
    pub fn new(path: PathUse) -> Self {
        Self {
            path,
            digest: true,
            min_expires: None,
            flow_timer: None,
        }
    }

    fn write(&self, address: SocketAddr, control: &str) -> String {
        let mut text = format!(
            "#!KAMAILIO\n#!define CONTROL \"{control}\"\n#!define TRUSTED {TRUSTED}\nlisten=udp:{address}\n"
        );
        // Writing to a string does not fail.
        let mode = match self.path {
            PathUse::None => None,
            PathUse::Lenient => Some(1),
            PathUse::Strict => Some(2),
        };
        if let Some(mode) = mode {
            let _ = writeln!(text, "#!define WITH_PATH\n#!define PATH_MODE {mode}");
        }
        if self.digest {
            text.push_str("#!define WITH_DIGEST\n");
        }
        if let Some(seconds) = self.min_expires {
            let _ = writeln!(
                text,
                "#!define MIN_EXPIRES {seconds}\n#!define MIN_EXPIRES_FIELD \"Min-Expires: {seconds}\\r\\n\""
            );
        }
        if let Some(seconds) = self.flow_timer {
            // A phone begins with keepalives only when the registrar says that it has understood (RFC 5626 §4.2.1).
            let _ = writeln!(
                text,
                "#!define FLOW_TIMER \"Require: outbound\\r\\nFlow-Timer: {seconds}\\r\\n\""
            );
        }
        text + CONFIGURATION
    }
}

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    process: Process,
    control: String,
}

/// What the registrar knows of a phone.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Binding {
    /// The user part of the address of record.
    pub user: String,
    /// The URI in the Contact.
    pub contact: String,
    /// The Path, as it came.
    pub path: Option<String>,
    /// In how many seconds it expires.
    pub expires: u32,
}

impl Kamailio {
    /// Starts Kamailio in `host`; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it ends, or does not answer on its control socket within seconds; the message has what it printed.
    pub fn start(
        lab: &Lab,
        host: &Host,
        name: &str,
        address: SocketAddr,
        options: &Options,
    ) -> Result<Self> {
        let dir = lab.dir().join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir:?}"))?;
        let control = format!("unix:{}", path_text(&dir.join("control"))?);
        let configuration = dir.join("kamailio.cfg");
        fs::write(&configuration, options.write(address, &control))
            .with_context(|| format!("cannot write {configuration:?}"))?;
        let mut command = Command::new("kamailio");
        // It stays in the foreground, with its workers as children. The memory is in megabytes.
        command
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-f"])
            .arg(&configuration);
        command.arg("-Y").arg(&dir).arg("-P").arg(dir.join("pid"));
        let mut kamailio = Self {
            process: lab.spawn(host, name, command)?,
            control,
        };
        let ready = until("Kamailio to be ready", TIMEOUT, || {
            if !kamailio.process.is_running() {
                return Some(false);
            }
            kamailio.control(&["core.uptime"]).is_ok().then_some(true)
        });
        match ready {
            Ok(true) => Ok(kamailio),
            Ok(false) => bail!("Kamailio has ended:\n{}", kamailio.process.output()),
            Err(error) => bail!("{error:#}\n{}", kamailio.process.output()),
        }
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Who is registered.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn bindings(&self) -> Result<Vec<Binding>> {
        Ok(parse(&self.control(&["ul.dump"])?))
    }

    /// Waits until what is registered satisfies `condition`; returns it.
    ///
    /// # Errors
    ///
    /// When it does not within seconds; the message has what is registered, and what Kamailio printed.
    pub fn await_bindings(
        &self,
        what: &str,
        condition: impl Fn(&[Binding]) -> bool,
    ) -> Result<Vec<Binding>> {
        let found = until(what, TIMEOUT, || {
            self.bindings().ok().filter(|bindings| condition(bindings))
        });
        found.with_context(|| format!("{:#?}\n{}", self.bindings(), self.process.output()))
    }

    /// Runs a command of Kamailio's, and returns what it answers.
    fn control(&self, words: &[&str]) -> Result<String> {
        run(Command::new("kamcmd")
            .args(["-s", &self.control])
            .args(words))
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Killing the main process alone would leave its workers, who hold the port until the host goes.
        let _ = self.process.stop();
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{:?} is not text", PathBuf::from(path)))
}

/// Reads the tree that `ul.dump` prints, of which each leaf is a line `Name: value`.
fn parse(dump: &str) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = Vec::new();
    let mut user = "";
    for line in dump.lines() {
        let Some((name, value)) = line.trim().split_once(": ") else {
            continue;
        };
        match (name, bindings.last_mut()) {
            ("AoR", _) => user = value,
            ("Address", _) => bindings.push(Binding {
                user: user.into(),
                contact: value.into(),
                ..Binding::default()
            }),
            // Of one that is over it says so in a word.
            ("Expires", Some(binding)) => binding.expires = value.parse().unwrap_or(0),
            ("Path", Some(binding)) => {
                binding.path = (value != "[not set]").then(|| value.to_string());
            }
            _ => {}
        }
    }
    bindings.retain(|binding| binding.expires > 0);
    bindings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dump_is_read() {
        let dump = "\tAoRs: {\n\t\tInfo: {\n\t\t\tAoR: bob\n\t\t\tContacts: {\n\t\t\t\tContact: {\n\
                    \t\t\t\t\tAddress: sip:bob-0x1@192.168.1.3:5060\n\t\t\t\t\tExpires: 58\n\t\t\t\t\tQ: -1\n\
                    \t\t\t\t\tPath: <sip:token@203.0.113.10:5060;lr>\n\t\t\t\t}\n\t\t\t\tContact: {\n\
                    \t\t\t\t\tAddress: sip:bob@192.168.1.3:5062\n\t\t\t\t\tExpires: expired\n\
                    \t\t\t\t\tPath: [not set]\n\t\t\t\t}\n\t\t\t}\n\t\t}\n\t}\n";
        let expected = Binding {
            user: "bob".into(),
            contact: "sip:bob-0x1@192.168.1.3:5060".into(),
            path: Some("<sip:token@203.0.113.10:5060;lr>".into()),
            expires: 58,
        };
        assert_eq!(parse(dump), [expected]);
    }
}
