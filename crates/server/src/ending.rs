//! Why the program ends other than well.
//!
//! Promise: one line that names the fix, and the exit code that scripts and service managers
//! branch on: 1 for a failure that may pass by itself, 2 for what a person must change.

use std::fmt;
use std::process::ExitCode;

/// An end that is not a clean stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The command line or the configuration is wrong: exit code 2.
    Misconfigured(String),
    /// Something failed: exit code 1.
    Failed(String),
}

impl Ending {
    /// The command line or the configuration is wrong. The line says which option, and what a
    /// right value looks like.
    pub fn misconfigured(line: impl Into<String>) -> Self {
        Self::Misconfigured(line.into())
    }

    /// Something failed. The line says what to do about it.
    pub fn failed(line: impl Into<String>) -> Self {
        Self::Failed(line.into())
    }

    /// The exit code.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Misconfigured(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Misconfigured(line) | Self::Failed(line)) = self;
        // Messages of libraries may have several lines; ours is one.
        for (number, word) in line.split_whitespace().enumerate() {
            if number > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl std::error::Error for Ending {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_one_line_whatever_a_library_says() {
        let ending = Ending::failed("cannot start:\n  first\n\n  second\n");
        assert_eq!(ending.to_string(), "cannot start: first second");
    }
}
