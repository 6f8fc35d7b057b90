//! Values looked at as far as the steps of a walk go.
//!
//! Promise: nothing here looks at more of the event's data than it has taken steps for: two values
//! are walked together, and no further than where they differ or where the steps end.

use serde_json::{Map, Value as Json};

use super::evaluate::{Come, Run};
use super::value::{Value, steps_of_bytes};

/// A name is compared with some at each level of the tree that members are kept in, and each level
/// holds so many times more of them, as a power of two.
const LEVEL_BITS: u32 = 4;

impl<'a> Run<'a> {
    /// Whether they are the same value; values of two kinds never are (CEL: heterogeneous equality).
    pub(super) fn same(&self, a: &Value<'_>, b: &Value<'_>) -> Come<'a, bool> {
        self.take(1)?;
        match (a, b) {
            (Value::Text(a), Value::Text(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                self.take(steps_of_bytes(a.len()))?;
                Ok(a == b)
            }
            (Value::List(a), Value::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(*b) {
                    if !self.same(&Value::of(a), &Value::of(b))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (name, a) in *a {
                    let Some(b) = self.member(b, name)? else { return Ok(false) };
                    if !self.same(&Value::of(a), &Value::of(b))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (a, b) => Ok(a.is_same_plain(b)),
        }
    }

    /// The member of that name, if there is one.
    pub(super) fn member<'b>(
        &self,
        members: &'b Map<String, Json>,
        name: &str,
    ) -> Come<'a, Option<&'b Json>> {
        let levels = members.len().checked_ilog2().map_or(1, |bits| 1 + bits / LEVEL_BITS);
        self.take(steps_of_bytes(name.len()).saturating_mul(levels))?;
        Ok(members.get(name))
    }
}

#[cfg(test)]
mod tests {
    use domain::event::EventType;
    use serde_json::json;

    use super::super::subject::{STEPS_MAX, Subject};
    use super::super::{Filter, Verdict};

    /// What the filter says, and how many steps it took.
    fn apply(filter: &str, data: &serde_json::Value) -> (Verdict, u32) {
        let event_type = EventType::parse("video.created").unwrap();
        let data = data.to_string();
        let subject = Subject::new(&event_type, &[], data.as_bytes());
        let before = subject.steps_left();
        let verdict = Filter::compile(filter).unwrap().apply(&subject);
        (verdict, before - subject.steps_left())
    }

    #[test]
    fn values_are_looked_at_together_and_no_further_than_where_they_differ() {
        let zeros = vec![0; 20_000];
        let mut others = zeros.clone();
        others[0] = 1;
        let data = json!({
            "zeros": zeros, "others": others, "empty": [], "lists": vec![json!([]); 20_000],
            "text": "x".repeat(20_000), "longer": "x".repeat(20_001),
        });
        for (filter, most) in [
            ("data.zeros == data.others", 10),
            ("data.zeros == data.lists", 10),
            ("data.zeros == data.empty", 10),
            ("data.text == data.longer", 10),
            ("data.zeros in [1, 'x', null]", 10),
            ("data.zeros in data.lists", 20_010),
        ] {
            let (verdict, steps) = apply(filter, &data);
            assert_eq!(verdict, Verdict::Rejects, "{filter}");
            assert!(steps <= most, "{filter}: {steps}");
        }
    }

    #[test]
    fn what_is_the_same_takes_a_step_for_each_part_of_it() {
        let data = json!({
            "list": vec![1; 5_000], "nested": vec![json!([1]); 5_000],
            "text": "x".repeat(16_000), "object": { "x".repeat(16_000): 1 },
        });
        for (name, least) in
            [("list", 5_000), ("nested", 10_000), ("text", 1_000), ("object", 1_000)]
        {
            let (verdict, steps) = apply(&format!("data.{name} == data.{name}"), &data);
            assert_eq!(verdict, Verdict::Passes);
            assert!(steps >= least && steps < least + 100, "{name}: {steps}");
        }
        for filter in [
            "data.text.startsWith(data.text)",
            "data.text.endsWith(data.text)",
            "!(data.text in data.object)",
            "!(data.text in data.list) && !has(data.object[data.text].x)",
        ] {
            let (verdict, steps) = apply(filter, &data);
            assert!((1_000..STEPS_MAX).contains(&steps), "{filter}: {verdict:?} {steps}");
        }
    }
}
