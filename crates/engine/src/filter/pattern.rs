//! A regular expression that takes one step for each byte of the text, whatever it is.
//!
//! Promise: the whole automaton is built when the filter is read, within bounds on the number and
//! the size of a filter's patterns, or the filter is refused; so matching never goes back and never builds. RE2's syntax, of which CEL
//! speaks: `\d`, `\w`, `\s` and `.` mean ASCII; a character beyond it counts as its UTF-8 bytes.

use std::fmt;

use regex_automata::dfa::dense::{Config, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// Most patterns of a filter: alternatives of one text are one pattern.
const PATTERNS_MAX: usize = 4;

/// Largest automata of a filter together, in bytes: room for paths, hosts and names. Whoever fills
/// an account with the largest filters makes its every event no dearer than a fraction of a second
/// and leaves the memory for other accounts' filters as it is (`at_hand`).
pub(super) const AUTOMATA_BYTES_MAX: usize = 16 * 1024;

/// Most memory for the states of a pattern before and while they are made into an automaton, in
/// bytes. Time goes with it: less than a millisecond or so for all patterns of a filter.
const BUILDING_BYTES_MAX: usize = 16 * 1024;

/// Deepest nesting of a pattern.
const NESTING_MAX: u32 = 32;

/// What further patterns of the same filter may take.
pub(super) struct PatternsLeft {
    patterns: usize,
    automata_bytes: usize,
}

impl Default for PatternsLeft {
    fn default() -> Self {
        Self { patterns: PATTERNS_MAX, automata_bytes: AUTOMATA_BYTES_MAX }
    }
}

/// A pattern that is searched for in a text.
pub(super) struct Pattern {
    text: Box<str>,
    automaton: DFA<Vec<u32>>,
}

impl Pattern {
    /// Reads the pattern and takes what it needs, or says what is wrong with it.
    pub(super) fn read(text: &str, left: &mut PatternsLeft) -> Result<Self, String> {
        let too_many = || format!("a filter has at most {PATTERNS_MAX} patterns");
        left.patterns = left.patterns.checked_sub(1).ok_or_else(too_many)?;
        let too_large = || {
            format!(
                "the patterns need automata of more than {AUTOMATA_BYTES_MAX} bytes together; make \
                 them simpler"
            )
        };
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
            .dfa_size_limit(Some(left.automata_bytes))
            .determinize_size_limit(Some(BUILDING_BYTES_MAX));
        let automaton = DFA::builder()
            .syntax(syntax)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(BUILDING_BYTES_MAX)))
            .configure(bounds)
            .build(text)
            .map_err(|_| too_large())?;
        let bytes = automaton.memory_usage();
        left.automata_bytes = left.automata_bytes.checked_sub(bytes).ok_or_else(too_large)?;
        // A copy has no room to grow, so that what it takes is what it weighs.
        let automaton = automaton.as_ref().to_owned();
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
        size_of::<Self>() + self.text.len() + self.automaton.memory_usage()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
