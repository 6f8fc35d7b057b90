//! One event of the log is one line, whatever texts of callers and receivers it quotes.
//!
//! Promise: control characters (line breaks, terminal escapes) inside a line are written as Rust
//! escapes, so that no text can forge a line or drive the terminal of who reads the log. Neighbour:
//! [`super::start_logging`], whose formatter writes each event, with its line break, at once.

use std::io::{self, Write};

/// Takes whole lines, one with each write.
#[derive(Debug)]
pub(super) struct OneLine<W> {
    inner: W,
    /// Lines may be coloured, as the formatter does on a terminal.
    is_coloured: bool,
}

impl<W> OneLine<W> {
    pub(super) fn new(inner: W, is_coloured: bool) -> Self {
        Self { inner, is_coloured }
    }

    /// The line without its end, its control characters escaped; `None` when it has none.
    fn escaped(&self, inside: &str) -> Option<String> {
        let is_harmful = |(at, character): (usize, char)| {
            character.is_control() && !(self.is_coloured && is_colour(&inside[at..]))
        };
        if !inside.char_indices().any(is_harmful) {
            return None;
        }
        let mut escaped = String::with_capacity(inside.len() * 2);
        for (at, character) in inside.char_indices() {
            if is_harmful((at, character)) {
                escaped.extend(character.escape_default());
            } else {
                escaped.push(character);
            }
        }
        Some(escaped)
    }
}

/// Whether the text begins with a change of colour (ECMA-48, SGR), which moves and clears nothing.
fn is_colour(text: &str) -> bool {
    let parameters = text.strip_prefix("\u{1b}[");
    parameters.is_some_and(|text| {
        text.trim_start_matches(|character: char| character.is_ascii_digit() || character == ';')
            .starts_with('m')
    })
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let inside = text.strip_suffix('\n').unwrap_or(&text);
        match self.escaped(inside) {
            Some(escaped) => self.inner.write_all(format!("{escaped}\n").as_bytes())?,
            None => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_that_quotes_line_breaks_and_escapes_is_one_line_without_them() {
        const QUOTED: &str = "a\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\u{85}\0 ü";
        for is_coloured in [false, true] {
            let written = Written::default();
            let inner = written.clone();
            let log = tracing_subscriber::fmt()
                .with_ansi(is_coloured)
                .with_writer(move || OneLine::new(inner.clone(), is_coloured))
                .finish();
            tracing::subscriber::with_default(log, || {
                tracing::info!(shown = %QUOTED, debugged = ?QUOTED, "{QUOTED}");
                tracing::info!("next");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{text:?}");
            assert!(text.contains(r"a\r\n2026-01-01T"), "{text}");
            assert!(text.contains('ü'), "{text}");
            assert!(!text.contains("\u{1b}[2J"), "{text:?}");
            let is_harmful = |character: char| {
                character.is_control()
                    && character != '\n'
                    && !(is_coloured && character == '\u{1b}')
            };
            assert!(!text.contains(is_harmful), "{text:?}");
        }
    }
}
