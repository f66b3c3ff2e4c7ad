//! A file of 64-bit words in shared memory.
#![allow(unsafe_code)]

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
};

use memmap2::{MmapOptions, MmapRaw};

/// Words that other processes can read in a file while this one writes them.
#[derive(Debug)]
pub struct SharedWords {
    map: MmapRaw,
    len: usize,
}

impl SharedWords {
    /// Puts a file with `words` at `path`, readable for everyone, in place of what was there, and maps it.
    ///
    /// Whoever reads `path` meanwhile sees the old file or the new one, never half of it.
    ///
    /// # Errors
    /// When directory or file cannot be written; the file that was there is then still there.
    pub fn create(path: &Path, words: &[u64]) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let new = PathBuf::from(name);
        // A crash may have left one. It is removed rather than opened: somebody may still have it mapped.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&new)?;
        Self::fill(&file, words)
            .and_then(|shared| std::fs::rename(&new, path).map(|()| shared))
            .inspect_err(|_| drop(std::fs::remove_file(&new)))
    }

    fn fill(mut file: &File, words: &[u64]) -> io::Result<Self> {
        // The mode above is cut by the umask.
        file.set_permissions(Permissions::from_mode(0o644))?;
        let bytes = words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<_>>();
        // Written, not just made longer: a hole in a full file system would be noticed as SIGBUS, long after this.
        file.write_all(&bytes)?;
        let map = MmapOptions::new().len(bytes.len()).map_raw(file)?;
        Ok(Self {
            map,
            len: words.len(),
        })
    }

    /// The words. Others see each of them as it was before or after a store, in no particular order.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        let start = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: `map` holds `len` * 8 bytes (`fill` asked for as many, and wrote as many to the file, so all pages
        // are backed), begins at a page and so is aligned, and lives as long as `self`. In this process nothing but
        // this function reaches it, and that as atomics; the file is writable for this user alone, who does not.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn stores_are_seen_in_the_file() {
        let path = std::env::temp_dir().join(format!("siplb-words-{}", std::process::id()));
        // Left by a crash.
        std::fs::write(path.with_extension("tmp"), "old").unwrap();
        let shared = SharedWords::create(&path, &[1, 2, 3]).unwrap();
        shared.words()[1].store(u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]), Relaxed);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);

        let newer = SharedWords::create(&path, &[7]).unwrap();
        shared.words()[0].store(9, Relaxed);
        assert_eq!(std::fs::read(&path).unwrap(), 7u64.to_ne_bytes());
        assert_eq!(newer.words()[0].load(Relaxed), 7);
        std::fs::remove_file(&path).unwrap();

        SharedWords::create(Path::new("/proc/nonexistent/stats"), &[1]).unwrap_err();
    }
}
