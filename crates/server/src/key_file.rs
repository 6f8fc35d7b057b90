//! The file that holds the keys which seal what is secret in storage.
//!
//! Promise: nobody but its owner can read it, or it is refused; it is on stable storage before
//! anything is sealed under its keys; a change of it happens entirely or not at all. Whoever has
//! this file and the database has the secrets; whoever has only one of them has nothing.
//! Neighbours: `wire` opens it before the store, `postrider keys` adds to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::sealing::{KeyRing, SealingKey};
use engine::sealing::SealingKeys;
use store::vault::Vault;

use crate::ending::Ending;

/// What a new file begins with.
const HEADING: &str = "\
# Keys that seal what is secret in Postrider's storage: one `ID KEY` a line, the first one seals.
# Keep a copy of this file apart from the database's: without it the database cannot be opened.
";

/// Largest key file: the largest ring, and as much again for comments.
const BYTES_MAX: u64 = 64 * 1024;

/// The file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`, which need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The ring in it.
    pub fn read(&self) -> Result<KeyRing, Ending> {
        self.ring().map_err(|why| Ending::misconfigured(format!("keys: {why}")))
    }

    fn ring(&self) -> Result<KeyRing, String> {
        let text = self.text()?;
        KeyRing::parse(&text).map_err(|error| format!("{} {error}", self.path.display()))
    }

    fn text(&self) -> Result<String, String> {
        let shown = self.path.display();
        let refused = |error: io::Error| format!("cannot read {shown}: {error}");
        let file = File::open(&self.path).map_err(refused)?;
        if readable_by_others(&file).map_err(refused)? {
            return Err(format!("{shown} can be read by others; run: chmod 600 {shown}"));
        }
        let mut text = String::new();
        let read = file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(refused)?;
        if read as u64 > BYTES_MAX {
            return Err(format!("{shown} has more than {BYTES_MAX} bytes: it is no key file"));
        }
        Ok(text)
    }

    /// Creates it with `key` as its only key.
    pub fn create(&self, key: &SealingKey) -> Result<KeyRing, Ending> {
        self.replace(&format!("{HEADING}{}", KeyRing::line(key)), false)?;
        Ok(KeyRing::of(key.clone()))
    }

    /// Puts `key` before all others, so that it seals from now on. The others stay, for backups.
    pub fn add(&self, key: &SealingKey) -> Result<KeyRing, Ending> {
        let ring = self.read()?;
        let text = self.text().map_err(Ending::failed)?;
        let at = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.len() + 1);
        let (heading, others) = text.split_at(at.sum::<usize>().min(text.len()));
        self.replace(&format!("{heading}{}{others}", KeyRing::line(key)), true)?;
        Ok(ring.with_active(key.clone()))
    }

    /// Writes the whole file under another name, syncs it, and gives it its name.
    fn replace(&self, text: &str, may_exist: bool) -> Result<(), Ending> {
        let write = || {
            if !may_exist && self.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let directory = match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let mut next = self.path.clone().into_os_string();
            next.push(".next");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            {
                use std::os::unix::fs::OpenOptionsExt as _;
                options.mode(0o600);
            }
            let mut file = options.open(&next)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &self.path)?;
            // The name must be as durable as what it names.
            File::open(directory)?.sync_all()
        };
        write().map_err(|error| {
            Ending::failed(format!(
                "keys: cannot write {}: {error}; it needs write access to that folder, or name \
                 another place with --keys or POSTRIDER_KEYS",
                self.path.display()
            ))
        })
    }
}

#[cfg(unix)]
fn readable_by_others(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// The file and the vault that its keys are used in.
pub struct Keeper {
    file: KeyFile,
    vault: Arc<Vault>,
}

impl Keeper {
    /// Keeps `vault` by `file`.
    pub fn new(file: KeyFile, vault: Arc<Vault>) -> Self {
        Self { file, vault }
    }
}

impl SealingKeys for Keeper {
    fn read(&self) -> Result<KeyRing, String> {
        self.file.ring()
    }

    fn in_use(&self) -> Arc<KeyRing> {
        self.vault.master()
    }

    fn replace(&self, ring: KeyRing) {
        self.vault.replace_master(ring);
    }
}

#[cfg(test)]
mod tests {
    use domain::sealing::{KEY_BYTES, SealingKeyId};

    use super::*;

    fn key(number: u8) -> SealingKey {
        SealingKey::new(SealingKeyId::from_bytes([number; 8]), [number; KEY_BYTES])
    }

    #[test]
    fn a_new_key_stands_first_and_the_others_and_the_heading_stay() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("postrider.db.keys"));
        file.create(&key(1)).unwrap();
        let ring = file.add(&key(2)).unwrap();
        assert_eq!(ring.keys(), [key(2), key(1)]);
        assert_eq!(file.read().unwrap(), ring);
        assert!(fs::read_to_string(file.path()).unwrap().starts_with(HEADING));
        assert!(file.create(&key(3)).is_err(), "an existing file is never replaced");
        assert_eq!(file.read().unwrap(), ring);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        file.create(&key(1)).unwrap();
        for mode in [0o640, 0o604, 0o666] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = file.read().unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_showing_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        file.create(&key(1)).unwrap();
        let path = file.path().to_owned();
        for text in ["", "hunter2 is my password\n", &"x".repeat(BYTES_MAX as usize + 1)] {
            fs::write(&path, text).unwrap();
            let refused = file.read().unwrap_err().to_string();
            assert!(refused.contains("keys"), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
