//! A browser without a screen: Chromium, driven by the DevTools protocol over a pipe, so that it needs no port and no library.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{Host, Lab, until};

/// How long it may take for anything that is asked of it, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page open, killed when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    number: u64,
    /// The page, once there is one.
    session: Option<String>,
    /// What it told unasked, since [`Browser::complaints`] or [`Browser::requests`] was asked for.
    heard: Vec<Value>,
}

impl Browser {
    /// Starts it in a host of the lab.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not answer.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self> {
        let mut command = Command::new("sh");
        // It reads orders from descriptor 3 and answers on 4.
        command.args([
            "-c",
            "exec chromium \"$@\" 3<&0 4>&1 1>&2 0</dev/null",
            "sh",
        ]);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
        ]);
        let profile = lab.dir().join("chromium");
        command.arg(format!("--user-data-dir={}", profile.display()));
        let log = File::create(lab.dir().join("chromium.out"))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut child = host
            .enter(|| command.spawn())?
            .context("cannot start chromium")?;
        let orders = child.stdin.take().context("no pipe")?;
        let pipe = child.stdout.take().context("no pipe")?;
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            orders,
            answers,
            number: 0,
            session: None,
            heard: Vec::new(),
        };
        let target = browser.order("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.order(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Gives an order of the DevTools protocol and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// When the browser refuses, is gone or does not answer within a minute.
    pub fn order(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut answer = self
                .answers
                .recv_timeout(left)
                .map_err(|error| anyhow!("chromium, {method}: {error}"))?;
            if answer["id"] != self.number {
                self.heard.push(answer);
            } else if answer["error"].is_null() {
                return Ok(answer["result"].take());
            } else {
                bail!("chromium, {method}: {}", answer["error"]);
            }
        }
    }

    /// Opens an address; all of the document is there when this returns.
    ///
    /// # Errors
    ///
    /// When it cannot be reached.
    pub fn open(&mut self, address: &str) -> Result<()> {
        let opened = self.order("Page.navigate", json!({ "url": address }))?;
        if let Some(error) = opened["errorText"].as_str() {
            bail!("{address}: {error}");
        }
        let is_there =
            format!("document.readyState === 'complete' && location.href === '{address}'");
        self.await_true(address, &is_there, PATIENCE)
    }

    /// The value of an expression of JavaScript, or of what it promises.
    ///
    /// # Errors
    ///
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.order("Runtime.evaluate", parameters)?;
        match answer.get("exceptionDetails") {
            Some(details) => bail!("{expression}: {details}"),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// The text of an element by its id.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn text(&mut self, id: &str) -> Result<String> {
        let text = self.evaluate(&format!("document.getElementById({id:?}).textContent"))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    ///
    /// When it is not within the time; the message has all text of the page.
    pub fn await_true(&mut self, what: &str, expression: &str, timeout: Duration) -> Result<()> {
        let waited = until(what, timeout, || match self.evaluate(expression) {
            Ok(Value::Bool(true)) => Some(Ok(())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        match waited {
            Ok(result) => result,
            Err(error) => {
                let page = self.evaluate("document.body.innerText")?;
                bail!("{error:#}; the page says\n{}", page.as_str().unwrap_or(""))
            }
        }
    }

    /// Presses and releases a key.
    ///
    /// # Errors
    ///
    /// When the browser is gone.
    pub fn press(&mut self, key: &str) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            self.order(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key }),
            )?;
        }
        Ok(())
    }

    /// Has the page as wide and high as a screen, in a colour scheme: `light` or `dark`.
    ///
    /// # Errors
    ///
    /// When the browser is gone.
    pub fn be(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.order("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.order("Emulation.setEmulatedMedia", json!({ "features": scheme }))?;
        Ok(())
    }

    /// Writes what is to be seen into a PNG file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn photograph(&mut self, path: &Path) -> Result<()> {
        let picture = self.order("Page.captureScreenshot", json!({}))?;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap_or_default())?;
        Ok(std::fs::write(path, bytes)?)
    }

    /// All that it complained of: exceptions, errors and warnings on the console, and what a policy forbade.
    ///
    /// # Errors
    ///
    /// When the browser is gone.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // Whatever it had to say before is heard with the answer.
        self.evaluate("0")?;
        let is_complaint = |told: &&Value| match told["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => ["error", "warning", "assert"]
                .contains(&told["params"]["type"].as_str().unwrap_or("")),
            Some("Log.entryAdded") => told["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        let complaints = self.heard.iter().filter(is_complaint);
        Ok(complaints.map(|told| told["params"].to_string()).collect())
    }

    /// Addresses of all that the page asked for.
    ///
    /// # Errors
    ///
    /// When the browser is gone.
    pub fn requests(&mut self) -> Result<Vec<String>> {
        self.evaluate("0")?;
        let sent = self.heard.iter();
        let sent = sent.filter(|told| told["method"] == "Network.requestWillBeSent");
        let address = |told: &Value| told["params"]["request"]["url"].as_str().map(str::to_owned);
        Ok(sent.filter_map(address).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end when it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
