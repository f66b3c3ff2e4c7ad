//! baresip as a phone.

use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    host::Host,
    kamailio::{DOMAIN, password},
    lab::{Lab, PORT},
    process::Process,
    wait::until,
};

/// Where distributions put its modules.
const MODULES: [&str; 3] = [
    "/usr/lib/baresip/modules",
    "/usr/lib64/baresip/modules",
    "/usr/local/lib/baresip/modules",
];
/// Of the phone's TCP socket for the test.
const CONTROL_PORT: u16 = 4444;
/// How long a registration or the set-up of a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who the phone is, and how it registers.
#[derive(Clone, Debug)]
pub struct Account {
    /// User part of its address of record, which is in [`DOMAIN`].
    pub user: String,
    /// Where it sends everything: its outbound proxy.
    pub proxy: SocketAddr,
    /// The time that it asks for when it registers, in seconds; it registers anew a little earlier.
    pub expires: u32,
    /// Asks for RFC 5626, and sends STUN keepalives if the registrar agrees.
    pub keepalives: bool,
}

impl Account {
    /// An account without keepalives, for an hour.
    pub fn new(user: &str, proxy: SocketAddr) -> Self {
        Self {
            user: user.into(),
            proxy,
            expires: 3600,
            keepalives: false,
        }
    }

    /// Its address of record.
    pub fn address(&self) -> String {
        format!("sip:{}@{DOMAIN}", self.user)
    }

    fn line(&self) -> String {
        let Self {
            user,
            proxy,
            expires,
            ..
        } = self;
        let keepalives = if self.keepalives {
            ";sipnat=outbound"
        } else {
            ""
        };
        format!(
            "<{}>;auth_user={user};auth_pass={};outbound=\"sip:{proxy}\";regint={expires};answermode=auto{keepalives}",
            self.address(),
            password(user)
        )
    }
}

/// Something that the phone tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// baresip's name for it, such as `CALL_ESTABLISHED`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why, or with whom.
    #[serde(default)]
    pub param: String,
}

/// A running phone. It answers calls by itself.
#[derive(Debug)]
pub struct Baresip {
    process: Process,
    account: Account,
    control: TcpStream,
    unread: Vec<u8>,
    events: VecDeque<Event>,
}

impl Baresip {
    /// Starts a phone in `host`, at port 5060 of `address`; it registers at once.
    ///
    /// # Errors
    ///
    /// When it does not start; the message has what it printed.
    pub fn start(lab: &Lab, host: &Host, address: IpAddr, account: &Account) -> Result<Self> {
        let name = format!("phone-{}", account.user);
        let dir = lab.dir().join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir:?}"))?;
        fs::write(dir.join("config"), configuration(address)?)?;
        // The account comes later, when somebody listens to what becomes of it.
        fs::write(dir.join("accounts"), "")?;
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&dir);
        let mut process = lab.spawn(host, &name, command)?;
        let control = SocketAddr::new(address, CONTROL_PORT);
        let connected = until("the phone to listen", TIMEOUT, || {
            if !process.is_running() {
                return Some(None);
            }
            let stream = host.enter(|| TcpStream::connect(control)).ok()?;
            stream.ok().map(Some)
        });
        let Some(control) = connected.with_context(|| process.output())? else {
            bail!("{name} has ended: {}", process.output());
        };
        let mut phone = Self {
            process,
            account: account.clone(),
            control,
            unread: Vec::new(),
            events: VecDeque::new(),
        };
        phone.register()?;
        Ok(phone)
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Begins to register, again after [`Self::unregister`].
    ///
    /// # Errors
    ///
    /// When the phone refuses.
    pub fn register(&mut self) -> Result<()> {
        self.command("uanew", &self.account.line())
    }

    /// Waits for the next registration to succeed; its text is what the registrar said.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long.
    pub fn await_registered(&mut self) -> Result<Event> {
        self.await_one_of(&["REGISTER_OK"], &["REGISTER_FAIL"], TIMEOUT)
    }

    /// Forgets the account, and begins to unregister.
    ///
    /// # Errors
    ///
    /// When the phone refuses.
    pub fn unregister(&mut self) -> Result<()> {
        self.command("uadel", &self.account.address())
    }

    /// Begins a call.
    ///
    /// # Errors
    ///
    /// When the phone refuses.
    pub fn dial(&mut self, uri: &str) -> Result<()> {
        self.command("dial", uri)
    }

    /// Waits until a call is up, whoever began it.
    ///
    /// # Errors
    ///
    /// When it is refused or takes too long.
    pub fn await_established(&mut self) -> Result<Event> {
        self.await_one_of(&["CALL_ESTABLISHED"], &["CALL_CLOSED"], TIMEOUT)
    }

    /// Ends the call. For the phone it is over at once, before the BYE is answered.
    ///
    /// # Errors
    ///
    /// When the phone refuses, or there is no call.
    pub fn hang_up(&mut self) -> Result<()> {
        self.command("hangup", "")?;
        self.await_closed().map(drop)
    }

    /// Waits until a call is over because the other side says so; the text of the event says why.
    ///
    /// # Errors
    ///
    /// When it takes too long.
    pub fn await_closed(&mut self) -> Result<Event> {
        self.await_one_of(&["CALL_CLOSED"], &[], TIMEOUT)
    }

    /// Waits for the first event of a kind in `wanted`; what comes before it is forgotten.
    ///
    /// # Errors
    ///
    /// After `timeout`, or when one in `unwanted` comes first; the message has what the phone printed.
    pub fn await_one_of(
        &mut self,
        wanted: &[&str],
        unwanted: &[&str],
        timeout: Duration,
    ) -> Result<Event> {
        let deadline = Instant::now() + timeout;
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted.contains(&event.kind.as_str()) {
                    return Ok(event);
                }
                ensure!(
                    !unwanted.contains(&event.kind.as_str()),
                    "{event:?} instead of {wanted:?}: {}",
                    self.process.output()
                );
            }
            let read = self.read(deadline);
            let answer = read.with_context(|| format!("{wanted:?}: {}", self.state()))?;
            ensure!(answer.is_none(), "an answer to no command: {answer:?}");
        }
    }

    /// Whether it has told of something that nobody has waited for.
    ///
    /// # Errors
    ///
    /// When the phone is gone.
    pub fn has_told(&mut self, kind: &str) -> Result<bool> {
        // An answer comes after everything that was told before.
        self.command("reginfo", "")?;
        Ok(self.events.iter().any(|event| event.kind == kind))
    }

    /// Ends it in the ordinary way: it unregisters first. It would not end when it has no account any more.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    /// Gives a command and waits for the answer.
    fn command(&mut self, command: &str, params: &str) -> Result<()> {
        let text = serde_json::json!({ "command": command, "params": params }).to_string();
        write!(self.control, "{}:{text},", text.len())?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let read = self.read(deadline);
            let answer = read.with_context(|| format!("{command}: {}", self.state()))?;
            if let Some(Answer { ok, data }) = answer {
                ensure!(ok, "{command} {params}: {data}");
                return Ok(());
            }
        }
    }

    /// For messages about what went wrong.
    fn state(&mut self) -> String {
        let state = match self.process.wait(Duration::ZERO) {
            Ok(status) => format!("it has ended, {status}"),
            Err(_) => "it runs".into(),
        };
        format!("{state}: {}", self.process.output())
    }

    /// Reads one message: an answer is returned, an event kept.
    fn read(&mut self, deadline: Instant) -> Result<Option<Answer>> {
        loop {
            if let Some(text) = take_netstring(&mut self.unread)? {
                let value: serde_json::Value = serde_json::from_slice(&text)?;
                if value.get("event").is_none() {
                    return Ok(Some(serde_json::from_value(value)?));
                }
                self.events.push_back(serde_json::from_value(value)?);
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing more from the phone");
            self.control.set_read_timeout(Some(left))?;
            let mut buffer = [0; 4096];
            match self.control.read(&mut buffer) {
                Ok(0) => bail!("the phone has closed its socket"),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    data: String,
}

/// Takes `LENGTH:TEXT,` from the front, if it is whole.
fn take_netstring(bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
        return Ok(None);
    };
    let length: usize = std::str::from_utf8(&bytes[..colon])?.parse()?;
    let end = colon + 1 + length;
    if bytes.len() <= end {
        return Ok(None);
    }
    ensure!(bytes[end] == b',', "the phone's text has no end");
    let text = bytes[colon + 1..end].to_vec();
    bytes.drain(..=end);
    Ok(Some(text))
}

/// No sound card: what it would play is what it sends.
fn configuration(address: IpAddr) -> Result<String> {
    let modules = MODULES.iter().find(|path| Path::new(path).is_dir());
    let modules = modules.context("baresip's modules are in none of the usual places")?;
    Ok(format!(
        "poll_method epoll\n\
         sip_listen {address}:{PORT}\n\
         audio_player aubridge,loop\n\
         audio_source aubridge,loop\n\
         audio_alert aubridge,loop\n\
         ausrc_srate 8000\n\
         module_path {modules}\n\
         module g711.so\n\
         module aubridge.so\n\
         module_tmp uuid.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen {address}:{CONTROL_PORT}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings_are_taken_whole() {
        let mut bytes = b"2:ab,3:c".to_vec();
        assert_eq!(take_netstring(&mut bytes).unwrap().unwrap(), b"ab");
        assert_eq!(take_netstring(&mut bytes).unwrap(), None);
        bytes.extend_from_slice(b",d,");
        assert_eq!(take_netstring(&mut bytes).unwrap().unwrap(), b"c,d");
        assert_eq!(bytes, b"");
    }
}
