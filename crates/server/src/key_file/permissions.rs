//! Whose a key file is, and who can read it.
//!
//! Promise: a key file that others can read or could have written is refused, and one that is
//! written anew stays its owner's. Neighbours: `key_file` asks for both.

pub(super) use of_system::{create_like, fault_of};

#[cfg(unix)]
mod of_system {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
    use std::path::Path;

    /// What is wrong with a key file, and the command that mends it, without the file's name.
    pub(crate) fn fault_of(file: &File) -> io::Result<Option<(String, String)>> {
        let file = file.metadata()?;
        Ok(fault(file.mode(), file.uid(), rustix::process::geteuid().as_raw()))
    }

    /// Root may read everybody's: it changes the file of the user that the service runs as.
    pub(super) fn fault(mode: u32, owner: u32, user: u32) -> Option<(String, String)> {
        if mode & 0o077 != 0 {
            return Some(("can be read by others".to_owned(), "chmod 600".to_owned()));
        }
        let is_trusted = owner == user || owner == 0 || user == 0;
        (!is_trusted).then(|| {
            let fault = format!("belongs to user {owner}, neither to user {user} nor to root");
            (fault, format!("chown {user}"))
        })
    }

    /// Creates a file that only its owner can open: the owner of `model`, if there is one. Whoever
    /// runs this as root must not take the file away from the service.
    pub(crate) fn create_like(name: &Path, model: &Path) -> io::Result<File> {
        let owner = match fs::metadata(model) {
            Ok(model) => Some(model.uid()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(name)?;
        if let Some(owner) = owner
            && file.metadata()?.uid() != owner
        {
            fchown(&file, Some(owner), None)?;
        }
        Ok(file)
    }
}

#[cfg(not(unix))]
mod of_system {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::path::Path;

    pub(crate) fn fault_of(_: &File) -> io::Result<Option<(String, String)>> {
        Ok(None)
    }

    pub(crate) fn create_like(name: &Path, _: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(name)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::of_system::fault;

    #[test]
    fn only_a_file_of_ones_own_or_of_root_is_read_except_by_root() {
        for (owner, user, is_read) in
            [(7, 7, true), (0, 7, true), (8, 7, false), (8, 0, true), (0, 0, true)]
        {
            let fault = fault(0o100_600, owner, user);
            assert_eq!(fault.is_none(), is_read, "{owner} {user}");
            if let Some((_, command)) = fault {
                assert_eq!(command, format!("chown {user}"));
            }
        }
    }
}
