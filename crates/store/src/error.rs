//! What a store cannot do. Lost races, absences and refusals are answers, not errors.

use thiserror::Error;

/// Why a store could not do its job. The text is for the operator's log, never for a caller.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot just now: no space, no connection, too much waiting. Nothing was changed; asking
    /// again later is right.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// Storage can no longer be trusted: a sync failed or a stored row is unreadable. It takes no
    /// more writes until the process is started anew.
    #[error("storage cannot be trusted: {0}")]
    Broken(String),
    /// It was closed.
    #[error("storage is closed")]
    Closed,
}
