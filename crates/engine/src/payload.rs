//! What the engine reads of a producer's `data`, without ever rewriting it.

use serde_json::Value;
use serde_json::value::RawValue;

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
    fn top_level_ids_are_found_as_text() {
        let data = br#"{"video_id":"v1","avatar_id":12345,"id":"x","n_id":1.5,"a":{"b_id":"y"}}"#;
        assert_eq!(data_ids(data), ["12345", "v1"]);
    }
}
