//! What it was measured on, and what else ran there.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::cmd;

/// The kernel counts processor time in hundredths of a second for programs (`USER_HZ`), on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long to look before the first bench.
const LOOK: Duration = Duration::from_secs(2);

/// Processor time since a moment.
pub struct Load {
    since: Instant,
    all: u64,
    ours: u64,
}

impl Load {
    /// Begins to look.
    pub fn start() -> Result<Load> {
        Ok(Load {
            since: Instant::now(),
            all: all_ticks()?,
            ours: our_ticks()?,
        })
    }

    /// Processors that others used since then, on average: 0.5 is half of one.
    pub fn of_others(&self) -> Result<f64> {
        let seconds = self.since.elapsed().as_secs_f64();
        let all = all_ticks()?.saturating_sub(self.all);
        let ours = our_ticks()?.saturating_sub(self.ours);
        Ok(all.saturating_sub(ours) as f64 / TICKS_PER_SECOND / seconds)
    }

    /// Processors that others use now. The load average would still count what we have just compiled.
    pub fn of_others_now() -> Result<f64> {
        let load = Load::start()?;
        thread::sleep(LOOK);
        load.of_others()
    }
}

/// Ticks that all processors were not idle.
fn all_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy(&text).context("/proc/stat is not as expected")
}

/// The line of all processors: user, nice, system, idle, iowait, irq, softirq, steal. Then guests, which user has too.
fn busy(stat: &str) -> Option<u64> {
    let fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let fields = fields
        .map(|field| field.parse().ok())
        .take(8)
        .collect::<Option<Vec<u64>>>()?;
    let idle = fields.get(3)? + fields.get(4)?;
    Some(fields.iter().sum::<u64>() - idle)
}

/// Ticks of ours and of the programs that we waited for.
fn our_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    ours(&text).context("/proc/self/stat is not as expected")
}

/// Fields 14 to 17 of proc_pid_stat(5); the name, field 2, may hold blanks and ends with the last bracket.
fn ours(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields = fields.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

/// Writes the table with what it was measured on to the records, and returns where.
pub fn save(name: &str, command: &str, others: Option<f64>, table: &str) -> Result<PathBuf> {
    let folder = PathBuf::from("lb-userspace/benches/record");
    let path = folder.join(format!("{name}.md"));
    let full = cmd::root().join(&path);
    fs::create_dir_all(cmd::root().join(folder))?;
    let noise = others.map_or_else(
        || "instructions only".to_owned(),
        |others| format!("{:.0} % of a processor", others * 100.0),
    );
    let facts = [
        ("command", format!("`{command}`")),
        ("date", answer("date", &["-u", "+%F"])),
        ("commit", commit()),
        ("compiler", answer("rustc", &["--version"])),
        ("processor", processor()),
        ("kernel", answer("uname", &["-sr"])),
        ("used by other programs", noise),
    ];
    let mut text = format!("# {name}\n\n");
    for (what, value) in facts {
        text += &format!("- {what}: {value}\n");
    }
    text += &format!("\nEach figure is for one message on one core.\n\n{table}");
    fs::write(&full, text).with_context(|| format!("writing {}", full.display()))?;
    Ok(path)
}

/// What the instructions of a bench depend on besides its source.
pub fn conditions() -> String {
    [
        answer("rustc", &["--version"]),
        std::env::consts::ARCH.to_owned(),
        answer("getconf", &["GNU_LIBC_VERSION"]),
    ]
    .join(", ")
}

fn commit() -> String {
    let commit = answer("git", &["rev-parse", "--short", "HEAD"]);
    match cmd::ask(cmd::foreign("git").args(["status", "--porcelain", "--untracked-files=no"])) {
        Some(changes) if !changes.is_empty() => format!("{commit}, with changes"),
        _ => commit,
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let count = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let name = value("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match (value("cpu family"), value("model\t")) {
        (Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model}), {count} cores")
        }
        _ => format!("{name}, {count} cores"),
    }
}

fn answer(program: &str, arguments: &[&str]) -> String {
    let answer = cmd::ask(cmd::foreign(program).args(arguments));
    answer.map_or_else(|| "not known".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read() {
        assert_eq!(
            busy("cpu  10 20 30 4000 500 6 7 8 9 10\ncpu0 1 2\n"),
            Some(81)
        );
        assert_eq!(busy("intr 1\n"), None);
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 5 6";
        assert_eq!(ours(stat), Some(127));
    }

    #[test]
    fn a_busy_loop_of_ours_is_not_billed_to_others() {
        let load = Load::start().expect("Linux");
        let before = our_ticks().expect("Linux");
        while our_ticks().expect("Linux") < before + 10 {}
        let all = all_ticks().expect("Linux") - load.all;
        let others = load.of_others().expect("Linux")
            * load.since.elapsed().as_secs_f64()
            * TICKS_PER_SECOND;
        assert!(others < all as f64, "{others} of {all}");
    }
}
