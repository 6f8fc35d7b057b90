//! What scenarios need of the machine, and what to do where it is missing.
//!
//! Promise: nothing is skipped in silence: a scenario that lacks something is not run and has not
//! passed.

use std::path::Path;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Traces and disturbs system calls.
    Strace,
    /// A file system of our own.
    Fuse,
    /// A clock of our own.
    Faketime,
    /// Limits what a process may have.
    Prlimit,
    /// To be root.
    Root,
}

impl Need {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Strace, Self::Fuse, Self::Faketime, Self::Prlimit, Self::Root];

    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Strace => "strace",
            Self::Fuse => "FUSE",
            Self::Faketime => "libfaketime",
            Self::Prlimit => "prlimit",
            Self::Root => "root",
        }
    }

    /// What to do where it is missing.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Strace => "apt-get install strace",
            Self::Fuse => {
                "apt-get install fuse3; a container also needs the device: docker run --device \
                 /dev/fuse --cap-add SYS_ADMIN"
            }
            Self::Faketime => "apt-get install faketime",
            Self::Prlimit => "apt-get install util-linux",
            Self::Root => "run it as root, or in a container",
        }
    }

    /// Whether this machine has it.
    pub(crate) fn is_met(self) -> bool {
        match self {
            Self::Strace => is_on_path("strace"),
            Self::Fuse => {
                Path::new("/dev/fuse").exists() && (is_root() || is_on_path("fusermount3"))
            }
            Self::Faketime => is_on_path("faketime"),
            Self::Prlimit => is_on_path("prlimit"),
            Self::Root => is_root(),
        }
    }
}

/// Those that this machine lacks.
pub(crate) fn missing(needs: &[Need]) -> Vec<Need> {
    needs.iter().copied().filter(|need| !need.is_met()).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
