//! BIRD as router and on the edges: the files that ship in `scripts/`, with other addresses where they must differ.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    host::{Host, run},
    lab::Lab,
    process::Process,
    wait::until,
};

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What a BIRD reads.
#[derive(Clone, Debug)]
pub struct Configuration {
    text: String,
}

impl Configuration {
    /// A file of `scripts/`.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn shipped(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../scripts")
            .join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
        Ok(Self { text })
    }

    /// Gives a `define` of the file another value.
    ///
    /// # Errors
    ///
    /// When the file has no such line, and the lab would silently use what is in it.
    pub fn define(mut self, name: &str, value: impl std::fmt::Display) -> Result<Self> {
        let start = format!("define {name} = ");
        ensure!(self.text.contains(&start), "no {start:?} in the file");
        let lines = self.text.lines().map(|line| {
            if line.starts_with(&start) {
                format!("{start}{value};\n")
            } else {
                format!("{line}\n")
            }
        });
        self.text = lines.collect();
        Ok(self)
    }

    /// Adds a line at the end.
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Whether it has a line that starts so.
    pub fn has(&self, start: &str) -> bool {
        self.text.lines().any(|line| line.starts_with(start))
    }
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    configuration: PathBuf,
    control: PathBuf,
}

impl Bird {
    /// Starts BIRD in `host`; it answers on its control socket when this returns, but has talked to nobody yet.
    ///
    /// # Errors
    ///
    /// When it ends, or does not answer within seconds; the message has what it printed.
    pub fn start(lab: &Lab, host: &Host, name: &str, text: &Configuration) -> Result<Self> {
        let file = |ending: &str| lab.dir().join(format!("{name}.{ending}"));
        let (configuration, control) = (file("conf"), file("ctl"));
        put_down(&configuration, text)?;
        // One that was killed leaves it behind.
        let _ = fs::remove_file(&control);
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(&configuration);
        command.arg("-s").arg(&control);
        let mut bird = Self {
            process: lab.spawn(host, name, command)?,
            configuration,
            control,
        };
        let ready = until("BIRD to be ready", START_TIMEOUT, || {
            if !bird.process.is_running() {
                return Some(false);
            }
            bird.command(&["show", "status"]).is_ok().then_some(true)
        });
        if !ready.with_context(|| bird.process.output())? {
            bail!("BIRD has ended:\n{}", bird.process.output());
        }
        Ok(bird)
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Gives it another configuration. Sessions that both have go on.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn configure(&self, text: &Configuration) -> Result<()> {
        put_down(&self.configuration, text)?;
        self.command(&["configure"]).map(drop)
    }

    /// Runs a command of `birdc`, and returns what it answers.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("birdc");
        command.arg("-v").arg("-s").arg(&self.control).args(words);
        let answer = run(&mut command)?;
        // Codes of errors begin with 8 or 9 (BIRD's doc/reply_codes).
        let refused = |line: &str| line.starts_with(['8', '9']);
        ensure!(!answer.lines().any(refused), "birdc {words:?}: {answer}");
        Ok(answer)
    }
}

fn put_down(path: &Path, configuration: &Configuration) -> Result<()> {
    let text = format!("log stderr all;\n{}", configuration.text);
    fs::write(path, text).with_context(|| format!("cannot write {path:?}"))
}
