//! How deep JSON is nested, found without recursion.
//!
//! Promise: whatever the bytes are, no stack grows here, and a reader that recurses into JSON which
//! passed goes no deeper than what was asked. Neighbours: the surfaces ask it of every body they
//! read into a tree, `engine` of every event's `data`.

/// Whether brackets outside strings nest deeper than `depth_max`: 0 for a scalar, 1 for a flat
/// object. Of bytes that are not JSON, the part before the first fault is judged like JSON.
pub fn is_deeper_than(json: &[u8], depth_max: usize) -> bool {
    // What has no more opening brackets than that, wherever they stand, cannot be, and almost all
    // has not; counting them costs a fraction of following them.
    opening_brackets(json) > depth_max && nests_deeper_than(json, depth_max)
}

/// Counts in bytes as far as a byte can count, which compilers make many at a time.
fn opening_brackets(json: &[u8]) -> usize {
    let is_opening = |byte: &u8| u8::from(matches!(byte, b'{' | b'['));
    let count = |some: &[u8]| usize::from(some.iter().map(is_opening).sum::<u8>());
    json.chunks(usize::from(u8::MAX)).map(count).sum()
}

fn nests_deeper_than(json: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => drop(bytes.next()),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let check = |json: &str, depth: usize| {
            for judge in [is_deeper_than, nests_deeper_than] {
                assert!(!judge(json.as_bytes(), depth), "{json}");
                assert!(depth == 0 || judge(json.as_bytes(), depth - 1), "{json}");
            }
        };
        check("1", 0);
        check("{}", 1);
        check(r#"{"a":[{}],"b":[]}"#, 3);
        check(r#"{"a":"[[[[","b\"[":[]}"#, 2);
        check(r#"{"a":"\\"}"#, 1);
        check(&format!("[{}]", vec!["[]"; 100].join(",")), 2);
        check(&format!("\"{}\"", "[".repeat(100)), 0);
        check(&format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)), 1_000_000);
        check(&"]".repeat(3), 0);
        check(&"[".repeat(1_000_000), 1_000_000);
    }
}
