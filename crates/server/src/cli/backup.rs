//! `postrider backup`: a copy of the database, while the service runs or not.
//!
//! Promise: under the name that was asked for there is a whole and checked copy on stable storage,
//! or nothing; what was there before is never replaced; the database is only read. The key file is
//! never copied: whoever has both has every secret. `store_sqlite::back_up` makes the copy.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::clock::{Clock as _, SystemClock};
use store::vault::Vault;
use store_sqlite::{BackedUp, BackupError, back_up};
use tempfile::TempPath;

use crate::config::{Config, Environment, Flags, StoreLocation};
use crate::ending::Ending;
use crate::life::Signals;
use crate::wire;

/// Copies the database to a file, while the service runs or not
///
/// The copy holds every event acknowledged before the command was started. It is checked before it
/// gets its name, and an existing file is never replaced. The key file is not copied: keep a copy of
/// it too, in another place. To restore, stop the service and put the copy where the database was, with
/// no other file of it beside it.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The TOML file to read options from [env: POSTRIDER_CONFIG]
    #[arg(long, value_name = "FILE", id = "config_file")]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Ending> {
        let environment = Environment::of_process();
        let config = Config::read(self.flags, environment, self.config.as_deref())?;
        super::block_on(Some(1), make(config, self.file))
    }
}

async fn make(config: Config, file: PathBuf) -> Result<(), Ending> {
    let StoreLocation::Sqlite(store) = config.store.clone();
    let clock = SystemClock;
    let begun_at = clock.now();
    let place = Place::find(&file)?;
    place.check_space(&store)?;
    let partial = place.begin()?;
    let (copy, key_file) = (partial.to_path_buf(), config.key_file());
    let keys = key_file.path().to_owned();
    let copying = tokio::task::spawn_blocking(move || {
        let is_sealed =
            store_sqlite::holds_sealed(&store).map_err(|error| wire::refused(&error))?;
        let fill_random = wire::fill_random();
        // A file of a version that sealed nothing needs no keys.
        let ring = if is_sealed {
            key_file.read()?
        } else {
            domain::sealing::KeyRing::of(Vault::make_key(&fill_random))
        };
        let vault = Vault::new(ring, Arc::clone(&fill_random));
        back_up(&store, &copy, &vault).map_err(|error| refused(&error))
    });
    let mut signals = Signals::new()?;
    let backed_up = tokio::select! {
        backed_up = copying => backed_up
            .map_err(|error| Ending::failed(format!("backup: copying broke off: {error}")))??,
        // What is there of the copy goes with `partial`.
        () = signals.next() => return Err(Ending::failed("backup: ended by a signal; no copy is left")),
    };
    place.end(partial)?;
    super::print(&told(&file, &keys, backed_up, clock.now().since(begun_at)))
}

fn told(file: &Path, keys: &Path, backed_up: BackedUp, took: Duration) -> String {
    let BackedUp { bytes, events, pending } = backed_up;
    format!(
        "{} is a backup of {bytes} bytes: {events} events accepted so far, {pending} deliveries \
         pending, made and checked in {:.1} s\n\
         it cannot be opened without the keys in {}, which is not in it: keep a copy of that file \
         too, in another place\n",
        file.display(),
        took.as_secs_f64(),
        keys.display()
    )
}

/// What a backup leaves free on the service's own disk, beside as much as the log has: the space the
/// store keeps for what was accepted, and as much for what is published meanwhile.
#[cfg(unix)]
const KEPT_FOR_THE_SERVICE_BYTES: u64 = 128 * 1024 * 1024;

/// Where the copy goes.
struct Place {
    file: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn find(file: &Path) -> Result<Self, Ending> {
        let shown = file.display();
        let misconfigured =
            |why: &str| Err(Ending::misconfigured(format!("backup: {shown} {why}")));
        if file.is_dir() {
            return misconfigured("is a folder; name a file in it that does not exist yet");
        }
        if file.symlink_metadata().is_ok() {
            return misconfigured("exists and is not replaced; name another file, or move it away");
        }
        if file.file_name().is_none() {
            return misconfigured("is no name of a file");
        }
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return misconfigured("is in a folder that does not exist; make that first");
        }
        Ok(Self { file: file.to_owned(), folder: folder.to_owned() })
    }

    /// Refuses to fill a disk, which may be the service's own. What is in the log may all come to
    /// the copy as well.
    fn check_space(&self, store: &Path) -> Result<(), Ending> {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt as _;
            let log = [store.as_os_str().as_bytes(), b"-wal"].concat();
            let log = Path::new(std::ffi::OsStr::from_bytes(&log));
            let bytes_of = |file: &Path| file.metadata().map_or(0, |file| file.len());
            let device_of = |path: &Path| rustix::fs::stat(path).map(|file| file.st_dev).ok();
            let mut needed = bytes_of(store) + bytes_of(log);
            if device_of(store).is_some_and(|device| device_of(&self.folder) == Some(device)) {
                needed += bytes_of(log) + KEPT_FOR_THE_SERVICE_BYTES;
            }
            let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < needed {
                return Err(Ending::failed(format!(
                    "backup: {} needs {needed} bytes, and its disk has {free} left; make space, \
                     or name a file on another disk",
                    self.file.display()
                )));
            }
        }
        Ok(())
    }

    /// A file beside it, which goes when it is dropped.
    fn begin(&self) -> Result<TempPath, Ending> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
        let partial =
            tempfile::Builder::new().prefix(&name).suffix(".partial").tempfile_in(&self.folder);
        partial.map(tempfile::NamedTempFile::into_temp_path).map_err(|error| self.not_made(&error))
    }

    /// Gives the copy its name, unless somebody else took it, and makes the name as durable as what
    /// it names.
    fn end(&self, partial: TempPath) -> Result<(), Ending> {
        partial.persist_noclobber(&self.file).map_err(|error| self.not_made(&error.error))?;
        let named = File::open(&self.folder).and_then(|folder| folder.sync_all());
        named.map_err(|error| {
            // Nobody may rely on it.
            let _ = fs::remove_file(&self.file);
            self.not_made(&error)
        })
    }

    fn not_made(&self, error: &io::Error) -> Ending {
        Ending::failed(format!(
            "backup: cannot make {}: {error}; it needs write access to that folder",
            self.file.display()
        ))
    }
}

fn refused(error: &BackupError) -> Ending {
    match error {
        BackupError::Database(error) => wire::refused(error),
        BackupError::Nothing(_) => Ending::misconfigured(format!(
            "backup: {error}; name the service's store with --store or POSTRIDER_STORE, for \
             example --store sqlite:postrider.db"
        )),
        BackupError::Copy { .. } | BackupError::Full(_) | BackupError::LogTooLong { .. } => {
            Ending::failed(format!("backup: {error}"))
        }
    }
}
