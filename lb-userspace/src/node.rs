//! A running node.

use crate::config::Config;

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {}

/// Runs until it is told to stop.
///
/// # Errors
/// When the node cannot start.
pub fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let _ = (config, options);
    anyhow::bail!("the data plane is not part of this build")
}
