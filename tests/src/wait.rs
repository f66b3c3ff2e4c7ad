//! Waiting for what cannot announce itself.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` again and again until it has something; fails after `timeout`, naming `what`.
///
/// # Errors
///
/// When `timeout` is over.
pub fn until<T>(what: &str, timeout: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {timeout:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
