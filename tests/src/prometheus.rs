//! Prometheus in a host of the lab, and what is told over HTTP there.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Host, Lab, Process, until};

/// Where it listens.
const ADDRESS: &str = "127.0.0.1:9090";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Prometheus, killed when dropped.
#[derive(Debug)]
pub struct Prometheus<'a> {
    host: &'a Host,
    process: Process,
}

impl<'a> Prometheus<'a> {
    /// Starts it with a configuration, whose relative paths are those of the lab's directory; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it ends, or is not ready within seconds; the message has what it printed.
    pub fn start(lab: &Lab, host: &'a Host, configuration: &str) -> Result<Self> {
        let path = lab.dir().join("prometheus.yml");
        std::fs::write(&path, configuration)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                lab.dir().join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"));
        let process = lab.spawn(host, "prometheus", command)?;
        let mut prometheus = Self { host, process };
        let ready = until("Prometheus to be ready", PATIENCE, || {
            if !prometheus.process.is_running() {
                return Some(false);
            }
            get(host, ADDRESS, "/-/ready").is_ok().then_some(true)
        });
        ensure!(ready?, "{}", prometheus.process.output());
        Ok(prometheus)
    }

    /// What an expression gives now.
    ///
    /// # Errors
    ///
    /// When it is none, or Prometheus does not answer.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", escaped(expression));
        let mut answer = self.ask(&path).context(expression.to_owned())?;
        match answer["data"]["result"].take() {
            Value::Array(result) => Ok(result),
            other => bail!("{expression}: {other}"),
        }
    }

    /// Labels and state of the alerts that are pending or fire.
    ///
    /// # Errors
    ///
    /// When Prometheus does not answer.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let mut answer = self.ask("/api/v1/alerts")?;
        match answer["data"]["alerts"].take() {
            Value::Array(alerts) => Ok(alerts),
            other => bail!("no alerts: {other}"),
        }
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&get(self.host, ADDRESS, path)?)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer)
    }
}

/// What is at an address over HTTP, asked from a host.
///
/// # Errors
///
/// When nobody answers, or with another status than 200; the message has the answer.
pub fn get(host: &Host, address: &str, path: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    let answer = host.enter(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Of version 1.0, so that it ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (head, content) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(
        head.split(' ').nth(1) == Some("200"),
        "{path}: {}: {content}",
        head.lines().next().unwrap_or_default()
    );
    Ok(content.to_owned())
}

/// As it can stand in a query (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Runs `promtool` in a directory; returns what it printed.
///
/// # Errors
///
/// When it finds a mistake; the message says which.
pub fn promtool(directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("promtool");
    crate::host::run(command.args(arguments).current_dir(directory))
}
