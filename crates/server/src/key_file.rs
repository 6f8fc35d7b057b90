//! The file that holds the keys which seal what is secret in storage.
//!
//! Promise: nobody but its owner can read it, or it is refused; it is on stable storage before
//! anything is sealed under its keys; a change of it happens entirely or not at all, and loses no
//! key that another change added. Whoever has this file and the database has the secrets; whoever
//! has only one of them has nothing.
//! Neighbours: `wire` opens it before the store, `postrider keys` adds to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::sealing::{KeyRing, SealingKey};
use engine::sealing::SealingKeys;
use store::vault::Vault;

use crate::ending::Ending;

mod permissions;

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
        parse(&self.path, &self.text()?)
    }

    fn text(&self) -> Result<String, String> {
        let shown = self.path.display();
        let refused = |error: io::Error| format!("cannot read {shown}: {error}");
        // Before it is opened: that would wait for whoever writes into a pipe.
        if !fs::metadata(&self.path).map_err(refused)?.is_file() {
            return Err(format!("{shown} is not a regular file"));
        }
        let file = File::open(&self.path).map_err(refused)?;
        if let Some((fault, command)) = permissions::fault_of(&file).map_err(refused)? {
            return Err(format!("{shown} {fault}; run: {command} {shown}"));
        }
        let mut text = String::new();
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(refused)?;
        Ok(text)
    }

    /// Creates it with `key` as its only key, or reads it if another was faster. Answers the ring
    /// that is in it.
    pub fn create(&self, key: &SealingKey) -> Result<KeyRing, Ending> {
        let held = self.hold()?;
        if held.file.exists() {
            return held.file.read();
        }
        held.replace(&format!("{HEADING}{}", KeyRing::line(key)))?;
        Ok(KeyRing::of(key.clone()))
    }

    /// Puts `key` before all others, so that it seals from now on. The others stay, for backups.
    /// Answers the ring that is in it.
    pub fn add(&self, key: &SealingKey) -> Result<KeyRing, Ending> {
        let misconfigured = |why: String| Ending::misconfigured(format!("keys: {why}"));
        let held = self.hold()?;
        let path = held.file.path();
        let text = held.file.text().map_err(misconfigured)?;
        let ring = parse(path, &text).map_err(misconfigured)?.with_active(key.clone());
        let comments = text.split_inclusive('\n').take_while(|line| line.starts_with('#'));
        let (heading, others) = text.split_at(comments.map(str::len).sum());
        let text = format!("{heading}{}{others}", KeyRing::line(key));
        // What would be read must be what is meant, or the secrets sealed from now on were lost.
        match parse(path, &text) {
            Ok(read) if read == ring => {}
            Ok(_) => {
                return Err(misconfigured(format!("cannot add a key to {}", path.display())));
            }
            Err(why) => {
                return Err(misconfigured(format!(
                    "with one key more, {why}; take out what is not needed: comments, and keys \
                     that nothing is sealed under"
                )));
            }
        }
        held.replace(&text)?;
        Ok(ring)
    }

    /// Keeps all others from changing it until the answer is dropped.
    fn hold(&self) -> Result<Held, Ending> {
        let hold = || {
            let path = true_name(&self.path)?;
            let lock = open_lock(&path)?;
            lock.lock()?;
            Ok(Held { file: Self { path }, _lock: lock })
        };
        hold().map_err(|error| self.not_written(&error))
    }

    fn not_written(&self, error: &io::Error) -> Ending {
        Ending::failed(format!(
            "keys: cannot write {}: {error}; it needs write access to that folder, or name \
             another place with --keys or POSTRIDER_KEYS",
            self.path.display()
        ))
    }
}

fn parse(path: &Path, text: &str) -> Result<KeyRing, String> {
    let shown = path.display();
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("{shown} has more than {BYTES_MAX} bytes: it is no key file"));
    }
    KeyRing::parse(text).map_err(|error| format!("{shown} {error}"))
}

/// The file under its true name, which nobody else changes meanwhile.
struct Held {
    file: KeyFile,
    _lock: File,
}

impl Held {
    /// Writes the whole file under another name, syncs it, and gives it its name and its owner.
    fn replace(&self, text: &str) -> Result<(), Ending> {
        let path = self.file.path();
        let write = || {
            let next = beside(path, ".next");
            // Never into what was left there or put there by another.
            match fs::remove_file(&next) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = permissions::create_like(&next, path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, path)?;
            // The name must be as durable as what it names.
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|error| self.file.not_written(&error))
    }
}

/// The file's one name, whatever links lead to it: it is what must be replaced, and all who change
/// it must hold the same lock.
fn true_name(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found_or_failed => return found_or_failed,
    }
    if path.is_symlink() {
        return Err(io::Error::other("it is a symbolic link that leads nowhere"));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(folder.canonicalize()?.join(name))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// Opens the file that is locked by whoever changes the file at `path`. It stays: if it were
/// removed, two could each hold a lock of that name.
fn open_lock(path: &Path) -> io::Result<File> {
    let name = beside(path, ".lock");
    match permissions::create_like(&name, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created_or_failed => return created_or_failed,
    }
    if !fs::symlink_metadata(&name)?.is_file() {
        return Err(io::Error::other(format!("{} is not a regular file", name.display())));
    }
    OpenOptions::new().write(true).open(&name)
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
    use domain::sealing::{KEY_BYTES, RING_KEYS_MAX, SealingKeyId};

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
        assert_eq!(file.create(&key(3)).unwrap(), ring, "an existing file is never replaced");
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

    #[test]
    fn keys_that_many_add_at_once_are_all_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        file.create(&key(0)).unwrap();
        at_once(|number| {
            let ring = file.add(&key(number)).unwrap();
            assert_eq!(ring.active(), &key(number));
        });
        let ring = file.read().unwrap();
        for number in 0..=WRITERS {
            assert!(ring.keys().contains(&key(number)), "{number} is lost");
        }
    }

    #[test]
    fn all_who_create_the_file_at_once_get_the_ring_that_is_in_it() {
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let file = KeyFile::at(&directory.path().join("keys"));
            let rings = at_once(|number| file.create(&key(number)).unwrap());
            let kept = file.read().unwrap();
            assert!(rings.iter().all(|ring| *ring == kept), "{rings:?}");
        }
    }

    const WRITERS: u8 = 16;

    fn at_once<T: Send>(act: impl Fn(u8) -> T + Sync) -> Vec<T> {
        let start = std::sync::Barrier::new(WRITERS.into());
        let act = |number| {
            start.wait();
            act(number)
        };
        let act = &act;
        std::thread::scope(|scope| {
            let start = |number| scope.spawn(move || act(number));
            let writers: Vec<_> = (1..=WRITERS).map(start).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_key_is_added_after_any_heading() {
        let line = KeyRing::line(&key(1));
        let crlf = line.replace('\n', "\r\n");
        let unfinished = line.trim_end();
        let texts = [
            format!("{crlf}# after\r\n"),
            format!("# Schlüssel\r\n# ключ\r\n# 鍵鍵鍵\r\n# é\r\n# é\r\n# é\r\n{crlf}"),
            format!("#\r\n#\r\n#\r\n#é\r\n{crlf}"),
            format!("# a\n\n  # b\n{line}"),
            format!("# a\n{unfinished}"),
        ];
        let directory = tempfile::tempdir().unwrap();
        for text in texts {
            let file = KeyFile::at(&directory.path().join("keys"));
            file.create(&key(9)).unwrap();
            fs::write(file.path(), &text).unwrap();
            let ring = file.add(&key(2)).unwrap();
            assert_eq!(ring.keys(), [key(2), key(1)]);
            assert_eq!(file.read().unwrap(), ring);
            let added = fs::read_to_string(file.path()).unwrap();
            assert_eq!(added.replace(&KeyRing::line(&key(2)), ""), text, "the rest stays");
        }
    }

    #[test]
    fn a_key_that_would_spoil_the_file_is_not_added() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        file.create(&key(1)).unwrap();
        let full: String = (1..=RING_KEYS_MAX)
            .map(|number| {
                let id = SealingKeyId::from_bytes((number as u64).to_be_bytes());
                KeyRing::line(&SealingKey::new(id, [1; KEY_BYTES]))
            })
            .collect();
        let one = KeyRing::line(&key(1));
        let long = format!("{}\n{one}", "#".repeat(BYTES_MAX as usize - one.len() - 1));
        for (text, why) in [(full, "keys"), (long, "bytes"), (KeyRing::line(&key(2)), "repeats")] {
            fs::write(file.path(), &text).unwrap();
            file.read().unwrap();
            let refused = file.add(&key(2)).unwrap_err();
            assert!(matches!(refused, Ending::Misconfigured(_)), "{refused}");
            assert!(refused.to_string().contains(why), "{refused}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_added_to_what_a_link_leads_to_and_the_link_stays() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("true");
        fs::create_dir(&folder).unwrap();
        let file = KeyFile::at(&folder.join("keys"));
        let link = KeyFile::at(&directory.path().join("keys"));
        symlink(file.path(), link.path()).unwrap();
        let refused = link.create(&key(1)).unwrap_err().to_string();
        assert!(refused.contains("leads nowhere"), "{refused}");
        file.create(&key(1)).unwrap();
        let ring = link.add(&key(2)).unwrap();
        assert!(link.path().is_symlink());
        assert_eq!(file.read().unwrap(), ring);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing beside the link");
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_never_written_through_what_lies_beside_the_file() {
        use std::os::unix::fs::{MetadataExt as _, symlink};
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        symlink(&elsewhere, directory.path().join("keys.next")).unwrap();
        file.create(&key(1)).unwrap();
        fs::write(directory.path().join("keys.next"), "left by a crash, read by all").unwrap();
        let ring = file.add(&key(2)).unwrap();
        assert_eq!(file.read().unwrap(), ring);
        assert!(!file.path().is_symlink());
        let lock = directory.path().join("keys.lock");
        assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&lock).unwrap();
        symlink(&elsewhere, &lock).unwrap();
        let refused = file.add(&key(3)).unwrap_err().to_string();
        assert!(refused.contains("keys.lock is not a regular file"), "{refused}");
        assert_eq!(file.read().unwrap(), ring);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    }

    /// Only root can give a file away; without it the owner is the same before and after.
    #[cfg(unix)]
    #[test]
    fn the_file_and_its_lock_belong_to_the_owner_it_had() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(&directory.path().join("keys"));
        file.create(&key(1)).unwrap();
        let lock = directory.path().join("keys.lock");
        fs::remove_file(&lock).unwrap();
        let user = rustix::process::geteuid();
        let owner = if user.is_root() { 65_534 } else { user.as_raw() };
        chown(file.path(), Some(owner), None).unwrap();
        file.add(&key(2)).unwrap();
        for path in [file.path(), &lock] {
            assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{}", path.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.unwrap().success());
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || said.send(KeyFile::at(&path).read()));
        let refused = heard.recv_timeout(testkit::PATIENCE).expect("it does not wait");
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
    }
}
