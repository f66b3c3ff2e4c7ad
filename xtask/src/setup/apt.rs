//! Debian's package manager.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};

use crate::cmd;

/// Package lists older than this are fetched anew before something is installed: versions that have gone from the
/// archive cannot be installed any more.
const LISTS_ARE_OLD_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How apt-get is run here.
#[derive(Debug)]
pub struct Apt {
    rights: Rights,
    updated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Root,
    Sudo,
    None,
}

impl Apt {
    /// `None` where packages do not come by apt-get.
    pub fn detect() -> Option<Apt> {
        cmd::find_program("apt-get")?;
        let rights = if cmd::is_root() {
            Rights::Root
        } else if cmd::find_program("sudo").is_some() {
            Rights::Sudo
        } else {
            Rights::None
        };
        Some(Apt {
            rights,
            updated: false,
        })
    }

    /// Fetches the package lists, when that is allowed and not done yet.
    pub fn update(&mut self) -> Result<()> {
        if self.updated || self.rights == Rights::None {
            return Ok(());
        }
        self.updated = true;
        cmd::run(self.apt_get().arg("update"))
    }

    /// The version that would be installed of each of `packages`; those that apt does not have are left out.
    pub fn candidates(&self, packages: &[&str]) -> BTreeMap<String, String> {
        let mut command = Command::new("apt-cache");
        command.env("LC_ALL", "C").arg("policy").args(packages);
        cmd::ask(&mut command).map_or_else(BTreeMap::new, |policy| parse_policy(&policy))
    }

    /// Whether all of `packages` can be installed.
    pub fn has(&self, packages: &[String]) -> bool {
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        self.candidates(&names).len() == names.len()
    }

    /// Whether all of `packages` are installed.
    pub fn are_installed(&self, packages: &[String]) -> bool {
        let mut command = Command::new("dpkg-query");
        command.args(["--show", "--showformat", "${db:Status-Status}\n"]);
        cmd::ask(command.args(packages))
            .is_some_and(|states| states.lines().all(|state| state == "installed"))
    }

    /// Installs packages, without those that they only recommend.
    ///
    /// # Errors
    ///
    /// When apt-get fails, or we may not run it: what to run is printed then.
    pub fn install(&mut self, packages: &[String]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        if self.rights == Rights::None {
            println!(
                "\nNot root, and there is no sudo. Run this as root, then this command again:"
            );
            println!(
                "  apt-get update && apt-get install --no-install-recommends {}",
                packages.join(" ")
            );
            bail!("packages are missing");
        }
        if lists_are_old() {
            self.update()?;
        }
        let services = services_of(packages);
        self.systemctl(&["mask", "--runtime"], &services)?;
        let result = self.install_quietly(packages);
        // Not after the next start of the machine either.
        self.systemctl(&["unmask", "--runtime"], &services)?;
        result?;
        self.systemctl(&["disable"], &services)
    }

    fn install_quietly(&mut self, packages: &[String]) -> Result<()> {
        // Something else must not be removed to make room: that is the user's to decide.
        let arguments = ["install", "--yes", "--no-install-recommends", "--no-remove"];
        let result = cmd::run(self.apt_get().args(arguments).args(packages));
        if result.is_err() && !self.updated {
            self.update()?;
            return cmd::run(self.apt_get().args(arguments).args(packages));
        }
        result
    }

    /// Tells systemd, where it runs, something about services.
    fn systemctl(&self, order: &[&str], services: &[&str]) -> Result<()> {
        if services.is_empty() || !Path::new("/run/systemd/system").exists() {
            return Ok(());
        }
        let mut command = match self.rights {
            Rights::Sudo => {
                let mut command = cmd::foreign("sudo");
                command.arg("systemctl");
                command
            }
            Rights::Root | Rights::None => cmd::foreign("systemctl"),
        };
        cmd::run(command.args(order).args(services))
    }

    fn apt_get(&self) -> Command {
        // No questions: tshark would ask who may capture.
        let question = "DEBIAN_FRONTEND=noninteractive";
        if self.rights == Rights::Sudo {
            let mut command = cmd::foreign("sudo");
            command.args(["env", question, "apt-get"]);
            return command;
        }
        let mut command = cmd::foreign("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// Services that packages bring and Debian starts: the labs want the programs alone, and a server that nobody has asked
/// for has no business on port 5060 or 9090.
fn services_of(packages: &[String]) -> Vec<&'static str> {
    let services = [
        ("kamailio", "kamailio.service"),
        ("prometheus", "prometheus.service"),
    ];
    let wanted = services
        .into_iter()
        .filter(|(package, _)| packages.iter().any(|name| name == package));
    wanted.map(|(_, service)| service).collect()
}

fn lists_are_old() -> bool {
    // Its time changes when lists are fetched, also when nothing in them is new.
    let fetched = fs::metadata("/var/lib/apt/lists/partial").and_then(|folder| folder.modified());
    fetched.map_or(true, |fetched| {
        SystemTime::now()
            .duration_since(fetched)
            .is_ok_and(|age| age > LISTS_ARE_OLD_AFTER)
    })
}

fn parse_policy(policy: &str) -> BTreeMap<String, String> {
    let mut candidates = BTreeMap::new();
    let mut package = "";
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            candidates.insert(package.to_owned(), version.to_owned());
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_and_packages_without_one_left_out() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n     \
            1.96.0+dfsg1-1~deb12u2 500\nrustup:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        let candidates = parse_policy(policy);
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates["rustc-web"], "1.96.0+dfsg1-1~deb12u2");
    }
}
