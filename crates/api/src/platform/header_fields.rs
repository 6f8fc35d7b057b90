//! Header fields as a JSON object that keeps its order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Names and values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderFields(pub(super) Vec<(String, String)>);

impl HeaderFields {
    /// The fields of a request head: a request line, then `name: value` a line. Values of a
    /// repeated name are joined by commas (RFC 9110 section 5.3).
    pub(super) fn of_head(head: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            match fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, values)) => {
                    values.push_str(", ");
                    values.push_str(value);
                }
                None => fields.push((name.to_owned(), value.to_owned())),
            }
        }
        Self(fields)
    }
}

impl Serialize for HeaderFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for HeaderFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderFieldsVisitor;

        impl<'de> Visitor<'de> for HeaderFieldsVisitor {
            type Value = HeaderFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderFields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(HeaderFields(fields))
            }
        }

        deserializer.deserialize_map(HeaderFieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_head_keep_their_order_and_their_values() {
        let head = "POST /a: b HTTP/1.1\nhost: x:8080\nX-A: 1\nempty: \nx-a: 2\n";
        let fields = [("host", "x:8080"), ("X-A", "1, 2"), ("empty", "")];
        assert_eq!(
            HeaderFields::of_head(head).0,
            fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
