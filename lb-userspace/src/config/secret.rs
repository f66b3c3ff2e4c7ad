//! The fleet secret, and the password of HEP, read from files that nobody else can read.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

use super::{Hep, Node, Password, locate::Path as Place, problem::Problems};
use crate::token::Keys;

/// Shortest secret, in bytes.
const MIN_LEN: usize = 16;
/// Longest secret file, in bytes.
const MAX_LEN: u64 = 4096;

/// Reads the secret files of a node. `None` when there is a problem with one of them.
pub(super) fn keys(node: &Node, problems: &mut Problems) -> Option<Keys> {
    let mut secret = |key: &str, path: &Path| {
        read(path)
            .map_err(|what| problems.add(&Place::root().key("node").key(key), what))
            .ok()
    };
    let current = match &node.secret_file {
        Some(path) => Some(secret("secret_file", path)?),
        None => None,
    };
    let previous = match &node.previous_secret_file {
        Some(path) => Some(secret("previous_secret_file", path)?),
        None => None,
    };
    let distribution = match &node.distribution_secret_file {
        Some(path) => Some(secret("distribution_secret_file", path)?),
        None => None,
    };
    let current = current.as_ref().map_or(&[][..], |secret| secret);
    let previous = previous.as_ref().map(|secret| &secret[..]);
    let keys = Keys::new(current, previous);
    Some(match distribution {
        Some(secret) => keys.with_distribution_secret(&secret),
        None => keys,
    })
}

/// Reads the password of HEP. `None` without one, and when there is a problem with its file.
pub(super) fn password(hep: &Hep, problems: &mut Problems) -> Option<Password> {
    let path = hep.password_file.as_deref()?;
    let name = path.display();
    let make = format!("write the collector's password into it: (umask 077; cat > {name})");
    let password = read_private(path, 1, &make);
    let at = Place::root().key("hep").key("password_file");
    password
        .map(Password)
        .map_err(|what| problems.add(&at, what))
        .ok()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let name = path.display();
    let make = format!(
        "make one with: (umask 077; head -c 32 /dev/urandom > {name}), and copy it to all nodes"
    );
    read_private(path, MIN_LEN, &make)
}

/// Reads a file that nobody else can read; `make` says how to make one.
///
/// Line ends behind the secret do not count: whether an editor or a deployment tool adds one must not decide whether
/// two nodes understand each other.
fn read_private(path: &Path, shortest: usize, make: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let name = path.display();
    let cannot = |error: std::io::Error| format!("\"{name}\" cannot be read: {error}; {make}");

    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("\"{name}\" is not a file; {make}"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "\"{name}\" can be read or written by others (mode {:03o}); run: chmod 600 {name}",
            metadata.mode() & 0o777
        ));
    }
    // Room for all of it at once: a vector that grows leaves copies of the secret behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 1));
    file.take(MAX_LEN + 1)
        .read_to_end(&mut secret)
        .map_err(cannot)?;
    if secret.len() as u64 > MAX_LEN {
        return Err(format!("\"{name}\" is longer than {MAX_LEN} bytes; {make}"));
    }
    while secret
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        secret.pop();
    }
    if secret.len() < shortest {
        return Err(format!(
            "\"{name}\" holds {} bytes, fewer than {shortest}; {make}",
            secret.len()
        ));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use crate::config::{MAX_FILE, load, tests::GOOD};

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("siplb-config-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, bytes: &[u8], mode: u32) -> String {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn secrets_come_from_files_that_nobody_else_can_read() {
        let dir = Dir::new("secret");
        let secret = dir.write("secret", b"0123456789abcdef", 0o400);
        let key = |keys: &str| {
            let text = GOOD.replace("name: edge-1", &format!("name: edge-1, {keys}"));
            let file = dir.write("siplb.yaml", text.as_bytes(), 0o644);
            load(Path::new(&file)).map(|config| config.keys.distribution_key())
        };
        let alone = key(&format!("secret_file: {secret}")).unwrap();

        let with_newline = dir.write("newline", b"0123456789abcdef\n", 0o600);
        assert_eq!(key(&format!("secret_file: {with_newline}")).unwrap(), alone);
        let other = dir.write("other", b"0123456789abcdeg", 0o600);
        assert_ne!(key(&format!("secret_file: {other}")).unwrap(), alone);
        assert_eq!(
            key(&format!(
                "secret_file: {secret}, previous_secret_file: {other}"
            ))
            .unwrap(),
            alone
        );
        assert_eq!(
            key(&format!(
                "secret_file: {other}, distribution_secret_file: {secret}"
            ))
            .unwrap(),
            alone
        );

        let make = |file: &str| {
            format!(
                "make one with: (umask 077; head -c 32 /dev/urandom > {file}), and copy it to all nodes"
            )
        };
        let short = dir.write("short", b"0123456789abcde\n", 0o600);
        let open = dir.write("open", b"0123456789abcdef", 0o640);
        let long = dir.write("long", &[b'x'; 4097], 0o600);
        let missing = dir.0.join("missing").display().to_string();
        let directory = dir.0.display().to_string();
        let cases = [
            (
                &short,
                format!("holds 15 bytes, fewer than 16; {}", make(&short)),
            ),
            (
                &open,
                format!("can be read or written by others (mode 640); run: chmod 600 {open}"),
            ),
            (&long, format!("is longer than 4096 bytes; {}", make(&long))),
            (
                &missing,
                format!(
                    "cannot be read: No such file or directory (os error 2); {}",
                    make(&missing)
                ),
            ),
            (&directory, format!("is not a file; {}", make(&directory))),
        ];
        for (file, what) in cases {
            let error = key(&format!("secret_file: {file}"))
                .unwrap_err()
                .to_string();
            let wanted = format!(
                "{}:1:36: node.secret_file: \"{file}\" {what}",
                dir.0.join("siplb.yaml").display()
            );
            assert_eq!(error, wanted);
        }
    }

    #[test]
    fn files_that_are_no_configuration() {
        let dir = Dir::new("files");
        let missing = dir.0.join("missing.yaml");
        assert_eq!(
            load(&missing).unwrap_err().to_string(),
            format!(
                "{}: cannot be read: No such file or directory (os error 2)",
                missing.display()
            )
        );
        let binary = dir.write("binary", b"a: \xff", 0o600);
        assert_eq!(
            load(Path::new(&binary)).unwrap_err().to_string(),
            format!("{binary}: is not UTF-8 at byte 3; name a configuration file")
        );
        let huge = dir.write("huge", &vec![b'#'; MAX_FILE as usize + 1], 0o600);
        assert_eq!(
            load(Path::new(&huge)).unwrap_err().to_string(),
            format!("{huge}: is longer than 1048576 bytes; name a configuration file")
        );
    }
}
