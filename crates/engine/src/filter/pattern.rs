//! A regular expression that takes one step for each byte of the text, whatever it is.
//!
//! Promise: the whole automaton is built when the filter is read, within a bound on its size, or
//! the filter is refused; so matching never goes back and never builds. RE2's syntax, of which CEL
//! speaks: `\d`, `\w`, `\s` and `.` mean ASCII; a character beyond it counts as its UTF-8 bytes.

use std::fmt;

use regex_automata::dfa::dense::{Config, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// Largest automaton of a pattern, in bytes: room for paths, hosts and names, and a hundred
/// thousand filters still fit in memory.
const AUTOMATON_BYTES_MAX: usize = 64 * 1024;

/// Most memory to build one, in bytes; it bounds the time too, to some milliseconds.
const BUILDING_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting of a pattern.
const NESTING_MAX: u32 = 32;

/// A pattern that is searched for in a text.
pub(super) struct Pattern {
    text: Box<str>,
    automaton: DFA<Vec<u32>>,
}

impl Pattern {
    /// Reads the pattern, or says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(NESTING_MAX);
        syntax::parse_with(text, &syntax).map_err(|error| {
            let told = error.to_string();
            let reason = told.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("the pattern is not a regular expression: {reason}")
        })?;
        let bounds = Config::new()
            .start_kind(StartKind::Unanchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(BUILDING_BYTES_MAX));
        let automaton = DFA::builder()
            .syntax(syntax)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(BUILDING_BYTES_MAX)))
            .configure(bounds)
            .build(text)
            .map_err(|_| "the pattern needs too large an automaton; make it simpler".to_owned())?;
        Ok(Self { text: text.into(), automaton })
    }

    /// The pattern as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is found in the text.
    pub(super) fn is_found_in(&self, text: &str) -> bool {
        let input = Input::new(text).anchored(Anchored::No).earliest(true);
        // An automaton without quitting bytes finds or does not; it cannot fail.
        self.automaton.try_search_fwd(&input).is_ok_and(|found| found.is_some())
    }

    /// How many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + self.automaton.memory_usage()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
