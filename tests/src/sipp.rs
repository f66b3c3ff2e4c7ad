//! SIPp as caller and server.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{
    host::Host,
    lab::{Lab, cpus},
    process::Process,
    wait::until,
};

/// A scenario: a file in `scenarios/`, by its name without `.xml`.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    replacements: Vec<(&'static str, String)>,
}

impl Scenario {
    /// The scenario of that name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            replacements: Vec::new(),
        }
    }

    /// Puts `value` where the scenario has `@WORD@`.
    pub fn with(mut self, word: &'static str, value: impl ToString) -> Self {
        self.replacements.push((word, value.to_string()));
        self
    }

    fn write(&self, dir: &Path) -> Result<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scenarios")
            .join(format!("{}.xml", self.name));
        let mut text = std::fs::read_to_string(&source)
            .with_context(|| format!("cannot read the scenario {source:?}"))?;
        for (word, value) in &self.replacements {
            text = text.replace(&format!("@{word}@"), value);
        }
        let values: Vec<&str> = self
            .replacements
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        let path = dir.join(format!("{}{}.xml", self.name, values.concat()));
        // Another SIPp may be reading it: it is there as a whole, once.
        if !path.exists() {
            let new = path.with_extension("new");
            std::fs::write(&new, text).with_context(|| format!("cannot write {new:?}"))?;
            std::fs::rename(&new, &path).with_context(|| format!("cannot write {path:?}"))?;
        }
        Ok(path)
    }
}

/// What a SIPp is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it plays.
    pub scenario: Scenario,
    /// Its own address and port.
    pub local: SocketAddr,
    /// Where the calls go; `None` for a server.
    pub remote: Option<SocketAddr>,
    /// How many calls before it ends; `None` for as many as come.
    pub calls: Option<u64>,
    /// New calls a second.
    pub rate: u32,
    /// Length of each `<pause/>` in milliseconds.
    pub pause_ms: u32,
    /// The only CPU that it may use, counted round: the lab's wires spread packets over queues by the CPU that sends,
    /// and a program that moved between them would overtake itself.
    pub cpu: usize,
    /// Write every message to a file, for [`Sipp::messages`].
    pub log_messages: bool,
    /// The address in its SDP; its own when `None`.
    pub media: Option<IpAddr>,
    /// Every call has a socket and hence a port of its own, instead of all the same; for a caller.
    pub own_ports: bool,
}

impl Plan {
    /// A caller.
    pub fn caller(
        scenario: Scenario,
        local: SocketAddr,
        remote: SocketAddr,
        calls: u64,
        rate: u32,
    ) -> Self {
        Self {
            remote: Some(remote),
            calls: Some(calls),
            rate,
            ..Self::server(scenario, local)
        }
    }

    /// A server.
    pub fn server(scenario: Scenario, local: SocketAddr) -> Self {
        Self {
            scenario,
            local,
            remote: None,
            calls: None,
            rate: 10,
            pause_ms: 100,
            cpu: 0,
            log_messages: false,
            media: None,
            own_ports: false,
        }
    }

    /// Runs on that CPU alone.
    pub fn on_cpu(mut self, cpu: usize) -> Self {
        self.cpu = cpu;
        self
    }

    /// Writes every message to a file.
    pub fn logging(mut self) -> Self {
        self.log_messages = true;
        self
    }
}

/// A running SIPp.
#[derive(Debug)]
pub struct Sipp {
    process: Process,
    files: Files,
    scenario: PathBuf,
}

#[derive(Clone, Debug)]
struct Files {
    statistics: PathBuf,
    errors: PathBuf,
    messages: PathBuf,
}

impl Sipp {
    /// Starts SIPp in `host`; a server is listening when this returns.
    ///
    /// # Errors
    ///
    /// When it does not start, or a server does not listen within seconds.
    pub fn start(lab: &Lab, host: &Host, name: &str, plan: &Plan) -> Result<Self> {
        let dir = lab.dir();
        let file = |what: &str| dir.join(format!("{name}.{what}"));
        let files = Files {
            statistics: file("stat.csv"),
            errors: file("errors.log"),
            messages: file("messages.log"),
        };
        // A socket for each call is more than a process may have by default.
        let mut command = Command::new("prlimit");
        command.args(["--nofile=20000", "taskset"]);
        let cpu = plan.cpu % cpus();
        command.args(["--cpu-list", &cpu.to_string(), "sipp"]);
        let scenario = plan.scenario.write(dir)?;
        command.current_dir(dir).arg("-sf").arg(&scenario);
        command
            .args(["-i", &plan.local.ip().to_string()])
            .args(["-p", &plan.local.port().to_string()])
            .args(["-d", &plan.pause_ms.to_string()])
            .args(["-r", &plan.rate.to_string()])
            .args(["-nostdin", "-fd", "1", "-timeout_error", "-l", "10000"])
            // Its default of 64 kB is some fifty messages: on a busy machine SIPp itself would lose the next ones.
            .args(["-buff_size", "4000000"])
            .arg("-trace_stat")
            .arg("-stf")
            .arg(&files.statistics)
            .arg("-trace_counts")
            .arg("-trace_err")
            .arg("-error_file")
            .arg(&files.errors);
        if plan.log_messages {
            command
                .arg("-trace_msg")
                .arg("-message_file")
                .arg(&files.messages);
        }
        if plan.own_ports {
            command.args(["-t", "un", "-max_socket", "9000"]);
        }
        if let Some(media) = plan.media {
            command.args(["-mi", &media.to_string()]);
        }
        if let Some(calls) = plan.calls {
            command.args(["-m", &calls.to_string()]);
        }
        if let Some(remote) = plan.remote {
            command.arg(remote.to_string());
        }
        let mut sipp = Self {
            process: lab.spawn(host, name, command)?,
            files,
            scenario,
        };
        if plan.remote.is_none() {
            sipp.await_listening(host, plan.local)?;
        }
        Ok(sipp)
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until all calls are over.
    ///
    /// # Errors
    ///
    /// After `timeout`, and when SIPp ended in another way than with calls that succeeded or failed.
    pub fn finish(&mut self, timeout: Duration) -> Result<Statistics> {
        let status = self.process.wait(timeout)?;
        // 0: all succeeded, 1: at least one failed.
        ensure!(
            matches!(status.code(), Some(0 | 1)),
            "{}: {status}\n{}\n{}",
            self.process.name(),
            self.errors(),
            self.process.output()
        );
        self.statistics()
    }

    /// Ends a server.
    ///
    /// # Errors
    ///
    /// When it does not end within seconds or leaves no statistics.
    pub fn stop(&mut self) -> Result<Statistics> {
        // SIPp ends at once at the second one, without waiting for calls that are still in its books.
        self.process.signal(Signal::USR1);
        if self.process.wait(Duration::from_secs(3)).is_err() {
            self.process.signal(Signal::USR1);
            self.process.wait(Duration::from_secs(5))?;
        }
        self.statistics()
    }

    /// What its books say now; at most a second old while it runs.
    ///
    /// # Errors
    ///
    /// When there is no line yet.
    pub fn statistics(&self) -> Result<Statistics> {
        Statistics::read(&self.files.statistics)
    }

    /// How many messages it has sent and received, retransmissions included; at most a second old while it runs.
    ///
    /// # Errors
    ///
    /// When there is no line yet.
    pub fn traffic(&self) -> Result<Traffic> {
        let (path, text) = self.counts()?;
        Traffic::parse(&text).with_context(|| format!("{path:?}: no counts yet"))
    }

    /// Its table of messages, and where it is.
    fn counts(&self) -> Result<(PathBuf, String)> {
        // SIPp chooses the name of this file, in the directory that it runs in.
        let stem = self.scenario.with_extension("");
        let path = PathBuf::from(format!(
            "{}_{}_counts.csv",
            stem.display(),
            self.process.id()
        ));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
        Ok((path, text))
    }

    /// How many responses of a status it has received, retransmissions not counted; at most a second old while it runs.
    ///
    /// # Errors
    ///
    /// When there is no line yet.
    pub fn responses(&self, status: u16) -> Result<u64> {
        let (path, text) = self.counts()?;
        responses(&text, status).with_context(|| format!("{path:?}: no counts yet"))
    }

    /// Calls begun until each time that it wrote its books, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When there are no books.
    pub fn created_by_time(&self) -> Result<Vec<(f64, u64)>> {
        let path = &self.files.statistics;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
        created_by_time(&text).with_context(|| format!("{path:?}: no statistics"))
    }

    /// Unexpected messages and the like; empty when all is well.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.files.errors).unwrap_or_default()
    }

    /// Every message that it sent and received, in order; needs [`Plan::logging`].
    ///
    /// # Errors
    ///
    /// When there is no log.
    pub fn messages(&self) -> Result<Vec<Message>> {
        let path = &self.files.messages;
        let text = std::fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
        Ok(parse_messages(&String::from_utf8_lossy(&text)))
    }

    fn await_listening(&mut self, host: &Host, local: SocketAddr) -> Result<()> {
        let filter = format!("-Hlnu src {local}");
        let listens = || match host.run("ss", &filter) {
            Ok(sockets) if !sockets.trim().is_empty() => Some(true),
            _ if !self.process.is_running() => Some(false),
            _ => None,
        };
        if !until("SIPp to listen", Duration::from_secs(10), listens)? {
            bail!(
                "{} has ended: {}",
                self.process.name(),
                self.process.output()
            );
        }
        Ok(())
    }
}

/// SIPp's books, cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Calls begun.
    pub created: u64,
    /// Calls not over yet.
    pub current: u64,
    /// Calls that went as the scenario says.
    pub successful: u64,
    /// Calls that did not.
    pub failed: u64,
    /// Messages sent again.
    pub retransmissions: u64,
    /// Messages that belonged to no call.
    pub out_of_call: u64,
    /// Messages for calls that are over.
    pub dead_call: u64,
    /// Why calls failed: SIPp's name for it, and how often.
    pub failures: BTreeMap<String, u64>,
}

impl Statistics {
    fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
        Self::parse(&text).with_context(|| format!("{path:?}: no statistics yet"))
    }

    fn parse(text: &str) -> Option<Self> {
        let columns: BTreeMap<&str, &str> = last_line(text)?.into_iter().collect();
        let number = |name: &str| columns.get(name)?.trim().parse::<u64>().ok();
        let failures = columns.keys().filter_map(|name| {
            let reason = name.strip_prefix("Failed")?.strip_suffix("(C)")?;
            let count = number(name).filter(|count| *count > 0)?;
            Some((reason.to_string(), count))
        });
        Some(Self {
            created: number("TotalCallCreated")?,
            current: number("CurrentCall")?,
            successful: number("SuccessfulCall(C)")?,
            failed: number("FailedCall(C)")?,
            retransmissions: number("Retransmissions(C)")?,
            out_of_call: number("OutOfCallMsgs(C)")?,
            dead_call: number("DeadCallMsgs(C)")?,
            failures: failures.collect(),
        })
    }

    /// The sum of several books.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for part in parts {
            sum.created += part.created;
            sum.current += part.current;
            sum.successful += part.successful;
            sum.failed += part.failed;
            sum.retransmissions += part.retransmissions;
            sum.out_of_call += part.out_of_call;
            sum.dead_call += part.dead_call;
            for (reason, count) in &part.failures {
                *sum.failures.entry(reason.clone()).or_default() += count;
            }
        }
        sum
    }
}

/// Columns and values of the last whole line of a table: the very last may be half written.
fn last_line(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split(';').collect();
    let mut lines = lines.map(|line| line.split(';').collect::<Vec<_>>());
    let values = lines.rfind(|values| values.len() == names.len())?;
    Some(names.into_iter().zip(values).collect())
}

/// Sum of the columns NUMBER_STATUS_Recv.
fn responses(text: &str, status: u16) -> Option<u64> {
    let name_end = format!("_{status}_Recv");
    let columns = last_line(text)?.into_iter();
    let counts = columns.filter(|(name, _)| name.ends_with(&name_end));
    counts
        .map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}

/// `CurrentTime` is date, time and seconds since 1970, with tabs between.
fn created_by_time(text: &str) -> Option<Vec<(f64, u64)>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split(';').collect();
    let place = |name: &str| names.iter().position(|other| *other == name);
    let (time, created) = (place("CurrentTime")?, place("TotalCallCreated")?);
    let rows = lines.map(|line| line.split(';').collect::<Vec<_>>());
    let rows = rows.filter(|values| values.len() == names.len());
    rows.map(|values| {
        let seconds = values[time].split('\t').next_back()?;
        Some((
            seconds.trim().parse().ok()?,
            values[created].trim().parse().ok()?,
        ))
    })
    .collect()
}

/// Messages of a SIPp, cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Sent, retransmissions included.
    pub sent: u64,
    /// Received, retransmissions included, unexpected ones not.
    pub received: u64,
    /// INVITEs among both.
    pub invites: u64,
}

impl Traffic {
    fn parse(text: &str) -> Option<Self> {
        let mut traffic = Self::default();
        // Columns are named NUMBER_MESSAGE_WHAT; `Retrans` goes the way of the `Sent` or `Recv` before it.
        let mut sending = false;
        for (name, value) in last_line(text)? {
            let (message, what) = name.rsplit_once('_').unwrap_or_default();
            let direction = match what {
                "Sent" => Some(true),
                "Recv" => Some(false),
                "Retrans" => Some(sending),
                _ => None,
            };
            let Some(direction) = direction else { continue };
            sending = direction;
            let count: u64 = value.trim().parse().ok()?;
            let total = if sending {
                &mut traffic.sent
            } else {
                &mut traffic.received
            };
            *total += count;
            if message.ends_with("_INVITE") {
                traffic.invites += count;
            }
        }
        Some(traffic)
    }

    /// The sum of several.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            sent: sum.sent + part.sent,
            received: sum.received + part.received,
            invites: sum.invites + part.invites,
        })
    }
}

/// A message in SIPp's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sent by this SIPp, or received.
    pub sent: bool,
    /// Everything, with CRLF line ends.
    pub text: String,
}

impl Message {
    /// Method of a request, or status code of a response with the method of its CSeq: `INVITE`, `200 INVITE`.
    pub fn kind(&self) -> String {
        let mut words = self.text.split_whitespace();
        match words.next() {
            Some("SIP/2.0") => {
                let status = words.next().unwrap_or_default();
                let method = self
                    .field("CSeq")
                    .and_then(|value| value.split_whitespace().nth(1));
                format!("{status} {}", method.unwrap_or_default())
            }
            method => method.unwrap_or_default().into(),
        }
    }

    /// The first value of a header field, trimmed; the name as it stands in the message.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head().lines();
        lines.find_map(|line| value_of(line, name))
    }

    /// All values of a header field, in order.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head()
            .lines()
            .filter_map(move |line| value_of(line, name))
    }

    fn head(&self) -> &str {
        self.text.split("\r\n\r\n").next().unwrap_or_default()
    }
}

fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (field, value) = line.split_once(':')?;
    (field.trim() == name).then(|| value.trim())
}

fn parse_messages(log: &str) -> Vec<Message> {
    // A line of dashes with the time, then "UDP message sent (421 bytes):" or "UDP message received [421] bytes :",
    // an empty line, the message.
    let mut messages = Vec::new();
    for part in log
        .split("----------------------------------------------- ")
        .skip(1)
    {
        let Some((head, text)) = part.split_once(":\n\n") else {
            continue;
        };
        messages.push(Message {
            sent: head.contains("sent"),
            text: text.into(),
        });
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_of_the_books_counts() {
        let text = "TotalCallCreated;CurrentCall;SuccessfulCall(C);FailedCall(C);Retransmissions(C);\
                    OutOfCallMsgs(C);DeadCallMsgs(C);FailedUnexpectedMessage(C);\n\
                    1;1;0;0;0;0;0;0;\n\
                    20;3;15;2;4;5;6;2;\n\
                    30;3;1\n";
        let expected = Statistics {
            created: 20,
            current: 3,
            successful: 15,
            failed: 2,
            retransmissions: 4,
            out_of_call: 5,
            dead_call: 6,
            failures: [
                ("Call".to_string(), 2),
                ("UnexpectedMessage".to_string(), 2),
            ]
            .into(),
        };
        assert_eq!(Statistics::parse(text), Some(expected));
        assert_eq!(Statistics::parse("TotalCallCreated;\n"), None);
    }

    #[test]
    fn calls_have_a_time() {
        let text = "StartTime;CurrentTime;TotalCallCreated;\n\
                    x;2026-11-28\t15:03:15.250000\t1764342195.250000;3;\n\
                    x;2026-11-28\t15:03:16.250000\t1764342196.250000;128;\n\
                    x;2026";
        let expected = vec![(1_764_342_195.25, 3), (1_764_342_196.25, 128)];
        assert_eq!(created_by_time(text), Some(expected));
    }

    #[test]
    fn responses_are_added_up_by_status() {
        let text = "CurrentTime;1_100_Recv;3_480_Recv;3_480_Retrans;4_200_Recv;8_200_Recv;\nnow;7;5;2;3;4;\n";
        assert_eq!(responses(text, 480), Some(5));
        assert_eq!(responses(text, 200), Some(7));
    }

    #[test]
    fn messages_are_added_up_by_direction() {
        let text = "CurrentTime;ElapsedTime;0_INVITE_Sent;0_INVITE_Retrans;0_INVITE_Timeout;1_200_Recv;\
                    1_200_Retrans;1_200_Timeout;1_200_Unexp;2_ACK_Sent;2_ACK_Retrans;5_Pause_Sessions;\n\
                    now;later;100;3;7;90;2;5;6;80;1;50;\n";
        let expected = Traffic {
            sent: 184,
            received: 92,
            invites: 103,
        };
        assert_eq!(Traffic::parse(text), Some(expected));
    }
}
