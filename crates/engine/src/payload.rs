//! What the engine reads of a producer's `data`, without ever rewriting it.

use serde_json::Value;
use serde_json::value::RawValue;

/// Whether valid JSON is nested deeper than `depth_max`.
pub(crate) fn is_deeper_than(json: &[u8], depth_max: usize) -> bool {
    // JSON with no more opening brackets than that, wherever they stand, cannot be, and almost all
    // is; counting them costs a tenth of following them.
    let brackets = json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    brackets > depth_max && json_depth(json) > depth_max
}

/// How deep valid JSON is nested: 0 for a scalar, 1 for a flat object. Does not recurse.
fn json_depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
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
    deepest
}

/// The values of the top-level members of `data` whose names end in `_id`: strings as they are,
/// whole numbers by their digits. Anything else names no entity.
pub(crate) fn data_ids(data: &[u8]) -> Vec<String> {
    type Members<'a> = std::collections::BTreeMap<String, &'a RawValue>;
    let Ok(members) = serde_json::from_slice::<Members<'_>>(data) else {
        return Vec::new();
    };
    members
        .into_iter()
        .filter(|(name, _)| name.ends_with("_id"))
        .filter_map(|(_, value)| match serde_json::from_str(value.get()) {
            Ok(Value::String(text)) => Some(text),
            Ok(Value::Number(number)) if number.is_u64() || number.is_i64() => {
                Some(number.to_string())
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let check = |json: &str, depth| assert_eq!(json_depth(json.as_bytes()), depth, "{json}");
        check("1", 0);
        check("{}", 1);
        check(r#"{"a":[{}]}"#, 3);
        check(r#"{"a":"[[[[","b\"[":[]}"#, 2);
        check(r#"{"a":"\\"}"#, 1);
        check(&format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)), 1_000_000);
    }

    #[test]
    fn only_real_depth_is_too_deep() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_deeper_than(deep(64).as_bytes(), 64));
        assert!(is_deeper_than(deep(65).as_bytes(), 64));
        assert!(!is_deeper_than(format!("[{}]", vec!["[]"; 100].join(",")).as_bytes(), 64));
        assert!(!is_deeper_than(format!("\"{}\"", "[".repeat(100)).as_bytes(), 64));
    }

    #[test]
    fn top_level_ids_are_found_as_text() {
        let data = br#"{"video_id":"v1","avatar_id":12345,"id":"x","n_id":1.5,"a":{"b_id":"y"}}"#;
        assert_eq!(data_ids(data), ["12345", "v1"]);
    }
}
