//! Pages of lists: `limit` and `cursor` in, `{"data":[…],"next_cursor":…}` out.
//!
//! Promise: a cursor is opaque, survives a restart, and is refused when it was not made here. Its
//! first byte is a version, so that its content may change one day without being misread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use domain::page::{Page, PageRequest};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::platform::parameters::Parameters;

/// The version of the cursors made today: 16 bytes of an id follow, most significant first.
const CURSOR_VERSION: u8 = 1;

/// Which page is asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `read` reads")]
pub(crate) struct PageParameters {
    /// Most rows to answer.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageParameters {
    /// Reads `limit` and `cursor`.
    pub(crate) fn read(parameters: &mut Parameters) -> PageRequest {
        let limit = read_limit(parameters);
        let before = parameters.optional(
            "cursor",
            "must be the `next_cursor` of the page before",
            read_cursor,
        );
        PageRequest { before, limit }
    }
}

/// Reads `limit`: how many rows to answer at most.
pub(crate) fn read_limit(parameters: &mut Parameters) -> usize {
    let limit = parameters.optional("limit", "must be a whole number from 1 to 500", |text| {
        text.parse().ok().filter(|limit| (1..=PAGE_SIZE_MAX).contains(limit))
    });
    limit.unwrap_or(PAGE_SIZE_DEFAULT)
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The rows.
    data: Vec<T>,
    /// Ask with it as `cursor` for the rows after these; null when there are none.
    next_cursor: Option<String>,
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self { data: page.items, next_cursor: page.next_before.map(write_cursor) }
    }
}

pub(crate) fn write_cursor(before: u128) -> String {
    let mut bytes = [CURSOR_VERSION; 17];
    bytes[1..].copy_from_slice(&before.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn read_cursor(text: &str) -> Option<u128> {
    let bytes: [u8; 17] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let (version, id) = bytes.split_first()?;
    (*version == CURSOR_VERSION)
        .then(|| u128::from_be_bytes(id.try_into().expect("16 of 17 bytes are left")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_was_written(before: u128) {
            prop_assert_eq!(read_cursor(&write_cursor(before)), Some(before));
        }

        #[test]
        fn any_text_is_a_cursor_of_ours_or_refused(text in ".*") {
            if let Some(before) = read_cursor(&text) {
                prop_assert_eq!(write_cursor(before), text);
            }
        }
    }

    #[test]
    fn a_cursor_of_another_version_is_refused() {
        let mut bytes = [0; 17];
        assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode(bytes)), None);
        bytes[0] = CURSOR_VERSION;
        assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode(bytes)), Some(0));
    }
}
