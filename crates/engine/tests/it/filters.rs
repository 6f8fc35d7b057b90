//! Filters: what they say of an event and why, what is refused, and that nothing they are given
//! makes them run on or panic.

use std::sync::Arc;

use bytes::Bytes;
use cel::{Context, Program};
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::{EntityId, EventType};
use domain::filter::FilterText;
use domain::matching::NoDelivery;
use engine::administer::{EndpointEdit, NewEndpoint};
use engine::filter::{Explanation, Filter, FilterTrial, FiltersAtHand, Subject, Verdict, Verdicts};
use engine::inspect::Fate;
use engine::publish::Publish;
use engine::scope::Scope;
use engine::{Engine, ErrorCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Scene, as_account};

fn event_type() -> EventType {
    EventType::parse("video.created").unwrap()
}

fn explain(filter: &str, data: &str) -> Explanation {
    let filter = Filter::compile(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    let ids = [EntityId::parse("project_1").unwrap()];
    let event_type = event_type();
    let explanation = filter.explain(&Subject::new(&event_type, &ids, data.as_bytes()));
    let verdict = filter.apply(&Subject::new(&event_type, &ids, data.as_bytes()));
    assert_eq!(explanation.verdict, verdict, "{filter:?}");
    explanation
}

const VIDEO: &str = r#"{
    "duration": 30, "ratio": 0.5, "title": "The \"sea\"", "status": "failed", "hd": true,
    "price": "12.50", "nothing": null, "error": {"code": 50000, "message": "no"},
    "items": [{"price": 5, "tags": ["a"]}, {"price": 20}], "labels": {"a-b": 1}, "list": [1, 2, 3]
}"#;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_filter_says_what_it_decided_and_names_what_decided() {
    let passes = [
        ("data.duration == 30", "passed because data.duration = 30 is == 30"),
        (
            "data.duration == 30.0 && data.ratio < 1",
            "passed because data.duration = 30 is == 30.0 and data.ratio = 0.5 is < 1",
        ),
        ("!(data.duration > 60)", "passed because data.duration = 30 is not > 60"),
        ("data.duration > 60 || data.hd", "passed because data.hd is true"),
        ("has(data.error.code)", "passed because data.error.code is there"),
        (
            "data.status in ['failed', 'done']",
            "passed because data.status = \"failed\" is in [\"failed\",\"done\"]",
        ),
        (
            "data.title.startsWith('The')",
            "passed because data.title = \"The \\\"sea\\\"\" starts with \"The\"",
        ),
        (
            "data.title.matches('^T.e')",
            "passed because data.title = \"The \\\"sea\\\"\" matches \"^T.e\"",
        ),
        (
            "matches(data.title, 'sea')",
            "passed because data.title = \"The \\\"sea\\\"\" matches \"sea\"",
        ),
        ("double(data.price) > 12.0", "passed because double(data.price) = 12.5 is > 12.0"),
        ("data.duration * 2 + 1 == 61", "passed because data.duration * 2 + 1 = 61 is == 61"),
        (
            "data.duration * data.ratio == 15.0",
            "passed because data.duration * data.ratio = 15 is == 15.0",
        ),
        ("data.nothing == null", "passed because data.nothing = null is == null"),
        ("data.labels['a-b'] == 1", "passed because data.labels[\"a-b\"] = 1 is == 1"),
        ("data.labels.`a-b` == 1", "passed because data.labels[\"a-b\"] = 1 is == 1"),
        ("data.list[2] == 3", "passed because data.list[2] = 3 is == 3"),
        ("size(data.items) == 2", "passed because size(data.items) = 2 is == 2"),
        ("data.title.size() == 9", "passed because size(data.title) = 9 is == 9"),
        (
            "data.items.exists(i, i.price > 10)",
            "passed because of data.items, at 1: i.price = 20 is > 10",
        ),
        (
            "data.items.all(i, i.price > 1)",
            "passed because every element i of data.items meets `i.price > 1`",
        ),
        (
            "data.items.exists_one(i, i.price > 10)",
            "passed because elements i of data.items that meet `i.price > 10`: 1",
        ),
        (
            "data.labels.exists(name, name == 'a-b')",
            "passed because of data.labels, at 0: name = \"a-b\" is == \"a-b\"",
        ),
        (
            "'a-b' in data.labels",
            "passed because \"a-b\" is in data.labels = an object of 1 member",
        ),
        (
            "type == 'video.created'",
            "passed because type = \"video.created\" is == \"video.created\"",
        ),
        (
            "'project_1' in entity_ids",
            "passed because \"project_1\" is in entity_ids = a list of 1 element",
        ),
        ("data.hd ? data.duration < 60 : false", "passed because data.duration = 30 is < 60"),
        (
            "data.list == [1, 2.0, 3]",
            "passed because data.list = a list of 3 elements is == [1,2.0,3]",
        ),
        ("-data.duration == -30", "passed because -data.duration = -30 is == -30"),
        (
            "data.nothing != 5 && true",
            "passed because data.nothing = null is != 5 and true is true",
        ),
        (
            "string(data.duration) + 's' == '30s'",
            "passed because string(data.duration) + \"s\" = \"30s\" is == \"30s\"",
        ),
    ];
    let rejects = [
        ("data.duration > 60", "rejected because data.duration = 30 is not > 60"),
        (
            "data.hd && data.duration > 60 && data.status == 'x'",
            "rejected because data.duration = 30 is not > 60",
        ),
        (
            "data.duration > 60 || data.status == 'done'",
            "rejected because data.duration = 30 is not > 60 and data.status = \"failed\" is not == \"done\"",
        ),
        ("!data.hd", "rejected because data.hd is true"),
        ("!(data.hd || false)", "rejected because data.hd is true"),
        ("data.height > 60", "rejected because data.height is not there"),
        ("!(data.height > 60)", "rejected because data.height is not there"),
        ("data.error.code.more == 1", "rejected because data.error.code.more is not there"),
        ("data.list[3] == 3", "rejected because data.list[3] is not there"),
        ("has(data.height)", "rejected because data.height is not there"),
        ("has(data.status.code)", "rejected because data.status.code is not there"),
        (
            "data.status.contains('done')",
            "rejected because data.status = \"failed\" does not contain \"done\"",
        ),
        (
            "data.title.endsWith('sky')",
            "rejected because data.title = \"The \\\"sea\\\"\" does not end with \"sky\"",
        ),
        (
            "data.title.matches('^sea')",
            "rejected because data.title = \"The \\\"sea\\\"\" does not match \"^sea\"",
        ),
        (
            "data.items.exists(i, i.price > 100)",
            "rejected because no element i of data.items meets `i.price > 100`",
        ),
        (
            "data.items.all(i, i.price > 10)",
            "rejected because of data.items, at 0: i.price = 5 is not > 10",
        ),
        (
            "data.items.all(i, has(i.tags))",
            "rejected because of data.items, at 1: i.tags is not there",
        ),
        ("false", "rejected because false is false"),
    ];
    let fails = [
        (
            "data.status > 60",
            "failed because `data.status` is a string (\"failed\") and `60` is a number (60), which `>` cannot compare",
        ),
        (
            "data.duration",
            "failed because `data.duration` is a number (30), where true or false is needed",
        ),
        (
            "data.duration.contains('x')",
            "failed because `data.duration` is a number (30), where a string is needed",
        ),
        (
            "data.duration / 0 == 1",
            "failed because `data.duration / 0` has no result: too large, or divided by zero",
        ),
        (
            "int(data.status) == 1",
            "failed because `data.status` is a string (\"failed\"), of which `int` can make nothing",
        ),
        (
            "data.duration.exists(x, x > 1)",
            "failed because `data.duration` is a number (30), which has no elements",
        ),
        (
            "1 in data.status",
            "failed because `data.status` is a string (\"failed\"), and nothing is `in` it",
        ),
        ("size(data.hd) == 1", "failed because `data.hd` is a boolean (true), which has no size"),
        (
            "data.list['a'] == 1",
            "failed because `data.list` is a list, in which a string (\"a\") names no place",
        ),
        (
            "9223372036854775807 * data.duration > 1",
            "failed because `9223372036854775807 * data.duration` has no result: too large, or divided by zero",
        ),
    ];
    for (filter, sentence) in passes {
        let expected = Explanation { verdict: Verdict::Passes, sentence: sentence.to_owned() };
        assert_eq!(explain(filter, VIDEO), expected, "{filter}");
    }
    for (filter, sentence) in rejects {
        let expected = Explanation { verdict: Verdict::Rejects, sentence: sentence.to_owned() };
        assert_eq!(explain(filter, VIDEO), expected, "{filter}");
    }
    for (filter, sentence) in fails {
        let said = explain(filter, VIDEO);
        assert_eq!(said.sentence, sentence, "{filter}");
        assert_eq!(said.verdict.no_delivery(), Some(NoDelivery::FilterFailed), "{filter}");
    }
}

#[test]
fn what_decides_on_one_side_passes_over_what_is_wrong_on_the_other() {
    for (filter, verdict) in [
        ("data.height > 1 || data.hd", Verdict::Passes),
        ("data.hd || data.height > 1", Verdict::Passes),
        ("data.status > 1 || data.hd", Verdict::Passes),
        ("data.status > 1 && data.duration > 60", Verdict::Rejects),
        ("data.items.exists(i, i.tags[0] == 'a')", Verdict::Passes),
        ("data.items.all(i, i.tags[0] == 'b')", Verdict::Rejects),
        ("!has(data.error.reason) || data.error.reason == 'x'", Verdict::Passes),
        ("!has(data.nothing.at.all)", Verdict::Passes),
    ] {
        assert_eq!(explain(filter, VIDEO).verdict, verdict, "{filter}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_no_filter_is_refused_with_the_place_and_the_reason() {
    let long = format!("data.x == '{}'", "x".repeat(2_048));
    let wide = vec!["true"; 201].join(" && ");
    let deep = format!("{}data.x{}", "!(".repeat(40), ")".repeat(40));
    let four_and_one = ["data.x.matches('a')"; 5].join(" && ");
    let four_large = ["data.x.matches('.*a.{5}N')"; 4].join(" && ");
    let table = [
        ("", "is empty; null means no filter"),
        (" \n", "is empty; null means no filter"),
        ("data.x >", "is wrong at line 1, character 9: ends where a value is needed"),
        ("data.x = 5", "is wrong at line 1, character 8: `=` does not compare; use `==`"),
        ("data.x > 5 5", "is wrong at line 1, character 12: `5` does not belong here"),
        (
            "data.x > 5 &&\n  duration > 5",
            "is wrong at line 2, character 3: `duration` is not a name here; there are `data`, `type` and `entity_ids`, so perhaps `data.duration`",
        ),
        (
            "data.x > 'ä' && duration > 5",
            "is wrong at line 1, character 17: `duration` is not a name here; there are `data`, `type` and `entity_ids`, so perhaps `data.duration`",
        ),
        ("(data.x > 5", "is wrong at line 1, character 12: expected ')'"),
        ("data.x > 'a", "is wrong at line 1, character 10: unterminated string literal"),
        (
            "data",
            "is wrong at line 1, character 1: `data` is neither true nor false; compare it with something",
        ),
        (
            "5",
            "is wrong at line 1, character 1: `5` is neither true nor false; compare it with something",
        ),
        (
            "size(data.x)",
            "is wrong at line 1, character 5: `size(data.x)` is neither true nor false; compare it with something",
        ),
        (
            "data.x && 5",
            "is wrong at line 1, character 11: `5` is neither true nor false; compare it with something",
        ),
        ("type > 5", "is wrong at line 1, character 6: `>` cannot compare `type` with `5`"),
        (
            "size(data.x) == 1 && data.y < [1]",
            "is wrong at line 1, character 29: `<` cannot compare `data.y` with `[1]`",
        ),
        ("type.name == 'x'", "is wrong at line 1, character 5: `type` has no members"),
        (
            "data.x in 'abc'",
            "is wrong at line 1, character 8: nothing is `in` `\"abc\"`, which is no list",
        ),
        (
            "data.x in [data.y]",
            "is wrong at line 1, character 16: `data.y` is in a list, which may hold plain values only",
        ),
        (
            "data.x == {'a': 1}",
            "is wrong at line 1, character 11: an object cannot be written in a filter",
        ),
        (
            "data.x == b'abc'",
            "is wrong at line 1, character 11: bytes are not in JSON; write a string",
        ),
        (
            "lower(data.x) == 'a'",
            "is wrong at line 1, character 6: `lower` is not available; there are `has`, `size`, `contains`, `startsWith`, `endsWith`, `matches`, `exists`, `all`, `exists_one`, `int`, `double` and `string`",
        ),
        (
            "data.x.map(y, y) == [1]",
            "is wrong at line 1, character 11: `map` and `filter` are not available; use `exists` or `all`",
        ),
        (
            "data.x.exists(y, y.z.exists(w, w == 1))",
            "is wrong at line 1, character 28: `exists` stands within another one",
        ),
        (
            "data.x.exists(y)",
            "is wrong at line 1, character 14: `exists` is not called so: `data.list.exists(element, element > 1)`",
        ),
        (
            "data.x.matches(data.y)",
            "is wrong at line 1, character 20: a pattern is a plain string, and `data.y` is not",
        ),
        (
            "data.x.matches('(')",
            "is wrong at line 1, character 16: the pattern is not a regular expression: unclosed group",
        ),
        (
            "data.x.matches('[ab]*a[ab]{20}')",
            "is wrong at line 1, character 16: the patterns need automata of more than 16384 bytes together; make them simpler",
        ),
        (
            four_and_one.as_str(),
            "is wrong at line 1, character 108: a filter has at most 4 patterns",
        ),
        (
            four_large.as_str(),
            "is wrong at line 1, character 106: the patterns need automata of more than 16384 bytes together; make them simpler",
        ),
        ("has(data)", "is wrong at line 1, character 5: invalid argument to has() macro"),
        (long.as_str(), "has more than 2048 bytes"),
        (wide.as_str(), "is wrong at line 1, character 1593: has more than 200 parts"),
        (deep.as_str(), "is nested too deep"),
    ];
    for (text, sentence) in table {
        let error = Filter::compile(text).expect_err(text);
        assert_eq!(error.to_string(), sentence, "{text}");
        assert_eq!(engine::filter::read(text), Err(sentence.to_owned()));
    }
}

#[test]
fn a_filter_takes_a_bounded_number_of_steps_and_leaves_some_for_its_neighbours() {
    let numbers = vec!["1"; 100_000].join(",");
    let data = format!(r#"{{"list":[{numbers}],"text":"{}"}}"#, "x".repeat(50_000));
    assert!(data.len() < 256 * 1024);
    let event_type = event_type();
    let subject = Subject::new(&event_type, &[], data.as_bytes());
    let costly = Filter::compile("data.list.exists(x, x == 2 || x == 3 || x == 4)").unwrap();
    let repeating = vec!["data.text.contains('y')"; 40].join(" || ");
    let repeating = Filter::compile(&repeating).unwrap();
    let simple = Filter::compile("size(data.list) > 5").unwrap();
    for _ in 0..100 {
        for filter in [&costly, &repeating] {
            let Verdict::Failed(reason) = filter.apply(&subject) else { panic!("{filter:?}") };
            assert!(reason.contains("steps"), "{reason}");
        }
        assert_eq!(simple.apply(&subject), Verdict::Passes);
    }
}

#[test]
fn no_values_make_a_filter_look_further_than_its_steps() {
    let zeros = vec!["0"; 25_000].join(",");
    let empty = vec!["[]"; 19_000].join(",");
    // Each of the conditions on these takes few steps but for the values it looks at.
    let few = vec!["1"; 4_000].join(",");
    let text = "x".repeat(20_000);
    let data = format!(
        r#"{{"many":[{empty}],"few":[{few}],"a":[{zeros},1],"same":[{zeros},2],"text":"{text}","object":{{"{text}":1}}}}"#
    );
    let data = Bytes::from(data);
    let event_type = event_type();
    let verdict = |filter: &str| {
        let filter = Filter::compile(filter).unwrap();
        let apply = filter.apply(&Subject::new(&event_type, &[], &data));
        let explanation = filter.explain(&Subject::new(&event_type, &[], &data));
        assert_eq!(apply, explanation.verdict);
        apply
    };
    for costly in [
        "data.few.all(x, data.a != data.same)",
        "data.few.exists(x, data.a == data.same)",
        "data.few.all(x, data.text.startsWith(data.text))",
        "data.few.all(x, data.text.endsWith(data.text))",
        "data.few.all(x, data.text in data.object)",
        "data.few.all(x, data.object[data.text] == 1)",
    ] {
        let Verdict::Failed(reason) = verdict(costly) else { panic!("{costly}") };
        assert!(reason.contains("steps"), "{costly}: {reason}");
    }
    assert_eq!(verdict("data.a in data.many"), Verdict::Rejects);
    assert_eq!(verdict("data.a == data.same"), Verdict::Rejects);
}

#[test]
fn an_explanation_that_takes_too_many_steps_says_only_what_the_whole_came_to() {
    let numbers = vec!["1"; 12_000].join(",");
    let data = format!(r#"{{"list":[{numbers},2]}}"#);
    // To decide takes more than half of the steps; to find what decided takes as many twice.
    let said = explain("data.list.exists(x, x == 2) || false", &data);
    assert_eq!(said.sentence, "passed because `data.list.exists(x, x == 2) || false` is true");
}

#[test]
fn equal_filters_are_read_once_and_asked_once_of_an_event() {
    let filters = FiltersAtHand::default();
    let text = FilterText::from_stored("data.x > 1");
    let first = filters.filter(&text).unwrap();
    let again = filters.filter(&FilterText::from_stored("data.x > 1")).unwrap();
    assert!(Arc::ptr_eq(&first, &again));

    let event_type = event_type();
    let unreadable = FilterText::from_stored("data.x >");
    let no = FilterText::from_stored("data.x > 5");
    let mut verdicts = Verdicts::new(&filters, Subject::new(&event_type, &[], br#"{"x":3}"#));
    for _ in 0..2 {
        assert_eq!(verdicts.ask(&text), Ok(()));
        assert_eq!(verdicts.ask(&no), Err(NoDelivery::Filter));
        assert_eq!(verdicts.ask(&unreadable), Err(NoDelivery::FilterFailed));
    }
}

/// Text that is often nearly a filter.
fn nearly_a_filter() -> impl Strategy<Value = String> {
    let words = [
        "data",
        ".",
        "a",
        "b",
        "type",
        "entity_ids",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        "-",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "?",
        ":",
        ",",
        "1",
        "2.5",
        "7u",
        "'x'",
        "\"",
        "'",
        "in",
        "has(data.a)",
        "size(",
        ".exists(x, ",
        ".all(x, ",
        ".matches('",
        "+",
        "*",
        "/",
        "%",
        "null",
        "true",
        "b'x'",
        "\\",
        "`a-b`",
        "é",
        "\n",
        "//",
        " ",
        ".map(",
        "double(",
        ".contains(",
        "0x",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

/// A filter, of what filters are made of.
fn a_filter() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("data.a"),
        Just("data.b"),
        Just("data.a.b"),
        Just("data.list"),
        Just("data.list[1]"),
        Just("1"),
        Just("2.5"),
        Just("'x'"),
        Just("null"),
        Just("true"),
        Just("size(data.list)"),
        Just("[1, 'x']"),
        Just("data.a + 1"),
        Just("data.a * data.b"),
        Just("-data.b"),
        Just("data['a']"),
        Just("data.a % 2"),
        Just("data.b / data.a"),
        Just("data"),
    ]
    .prop_map(str::to_owned);
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">=", "in"]);
    let condition = prop_oneof![
        (value.clone(), operator, value).prop_map(|(a, how, b)| format!("{a} {how} {b}")),
        Just("data.a".to_owned()),
        Just("has(data.a)".to_owned()),
        Just("data.a.contains('x')".to_owned()),
        Just("data.list.exists(x, x == data.a)".to_owned()),
        Just("data.list.all(x, x > 1)".to_owned()),
        Just("data.list.exists_one(x, x == 1 || x.b == 1)".to_owned()),
        Just("data.a.exists(x, data.b in [x.size(), 1, 'x'] || x == 'b')".to_owned()),
    ];
    condition.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[xyb]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn some_data() -> impl Strategy<Value = Value> {
    let member = || prop::option::of(any_json());
    (member(), member(), member()).prop_map(|(a, b, list)| {
        let members = [("a", a), ("b", b), ("list", list)];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_sentence(text in prop_oneof![".{0,60}", nearly_a_filter()]) {
        match Filter::compile(&text) {
            Ok(filter) => {
                let event_type = event_type();
                filter.explain(&Subject::new(&event_type, &[], VIDEO.as_bytes()));
            }
            Err(error) => {
                let told = error.to_string();
                prop_assert!(!told.is_empty() && !told.contains('\n') && told.len() < 4_096, "{told}");
                if let Some(position) = error.position {
                    prop_assert!(position.line <= text.lines().count() + 1, "{told}");
                }
            }
        }
    }

    /// Where the `cel` crate's own interpreter has a value, so have we, and the same: it is one
    /// language. We are kinder with whole and other numbers, with `has`, and with members of what
    /// has none, so that what is an error there may be a verdict here.
    #[test]
    fn a_filter_says_what_the_cel_interpreter_says(filter in a_filter(), data in some_data()) {
        let Ok(read) = Filter::compile(&filter) else { return Ok(()) };
        let event_type = event_type();
        let bytes = data.to_string();
        let said = read.apply(&Subject::new(&event_type, &[], bytes.as_bytes()));
        let mut context = Context::default();
        context.add_variable("data", &data).unwrap();
        match Program::compile(&filter).unwrap().execute(&context) {
            Ok(cel::Value::Bool(true)) => prop_assert_eq!(said, Verdict::Passes),
            Ok(cel::Value::Bool(false)) => prop_assert_eq!(said, Verdict::Rejects),
            Ok(_) => prop_assert!(matches!(said, Verdict::Failed(_)), "{:?}", said),
            Err(_) => {}
        }
    }

    #[test]
    fn any_filter_gives_a_verdict_on_any_data(filter in a_filter(), data in any_json()) {
        let Ok(read) = Filter::compile(&filter) else { return Ok(()) };
        let event_type = event_type();
        let bytes = data.to_string();
        let said = read.explain(&Subject::new(&event_type, &[], bytes.as_bytes()));
        let word = match said.verdict {
            Verdict::Passes => "passed because ",
            Verdict::Rejects => "rejected because ",
            Verdict::Failed(_) => "failed because ",
        };
        prop_assert!(said.sentence.starts_with(word), "{}", said.sentence);
    }
}

#[test]
fn the_longest_and_deepest_texts_are_read_on_a_small_stack() {
    let table = [
        "(",
        "!",
        "-",
        "[",
        "a?",
        "a?b:",
        "!(",
        "a[",
        "data.",
        "1+",
        "a&&",
        "a||b&&",
        "f(",
        "a.b(",
        "{1:",
        "a.exists(x,",
        "has(",
        "''+",
        "\"\\x41\"+",
    ];
    let read = move || {
        for part in table {
            let count = 2_048 / part.len();
            for end in ["", "a", "1", "true"] {
                let text = part.repeat(count);
                let text = format!("{}{end}", &text[..text.len().min(2_048 - end.len())]);
                drop(Filter::compile(&text));
                let closed = text.replace("data.", "").len();
                assert!(closed <= 2_048);
            }
            let (open, close) = (part.repeat(count / 2), ")".repeat(count / 2));
            let text: String = format!("{open}1{close}").chars().take(2_048).collect();
            drop(Filter::compile(&text));
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(read).unwrap().join().unwrap();
}

async fn filtered(scene: &Scene, username: &str, filter: Option<&str>) -> Endpoint {
    let account = scene.account(Contract::Standard, username).await;
    let new = NewEndpoint {
        url: format!("https://hooks.customer.com/{username}"),
        filter: filter.map(str::to_owned),
        ..NewEndpoint::default()
    };
    scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap()
}

async fn fate_of(engine: &Engine, endpoint: &Endpoint, data: &'static str) -> Fate {
    let publish = Publish {
        account: endpoint.account.to_string(),
        event_type: "video.created".to_owned(),
        data: Bytes::from_static(data.as_bytes()),
        ..Publish::default()
    };
    let published = engine.publish(Scope::OPERATOR, publish, None).await.unwrap();
    let mut story = engine.event(Scope::OPERATOR, published.id).await.unwrap();
    assert_eq!(story.fates.len(), 1);
    story.fates.pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_filter_rejects_is_not_delivered_and_the_story_says_why() {
    let scene = Scene::new().await;
    let endpoint = filtered(&scene, "john", Some("data.duration > 60")).await;
    scene.pass(std::time::Duration::from_secs(1)).await;
    let engine = &scene.engine;

    let fate = fate_of(engine, &endpoint, r#"{"duration":90}"#).await;
    assert!(fate.delivery.is_ok());
    assert_eq!(fate.detail, None);

    let fate = fate_of(engine, &endpoint, r#"{"duration":30}"#).await;
    assert_eq!(fate.delivery, Err(NoDelivery::Filter));
    assert_eq!(fate.detail.unwrap(), "rejected because data.duration = 30 is not > 60");

    let fate = fate_of(engine, &endpoint, r#"{"duration":"long"}"#).await;
    assert_eq!(fate.delivery, Err(NoDelivery::FilterFailed));
    assert!(fate.detail.unwrap().starts_with("failed because `data.duration` is a string"));
    scene.drain().await;
    assert_eq!(scene.deliveries().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_is_said_to_miss_only_what_its_filter_lets_pass() {
    let scene = Scene::new().await;
    let endpoint = filtered(&scene, "john", Some("data.duration > 60")).await;
    let disable = EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, disable).await.unwrap();
    let fate = fate_of(&scene.engine, &endpoint, r#"{"duration":90}"#).await;
    assert_eq!(fate.delivery, Err(NoDelivery::Disabled));
    let fate = fate_of(&scene.engine, &endpoint, r#"{"duration":30}"#).await;
    assert_eq!(fate.delivery, Err(NoDelivery::Filter));
}

#[tokio::test(start_paused = true)]
async fn a_story_is_not_told_by_a_filter_that_was_changed_since() {
    let scene = Scene::new().await;
    let endpoint = filtered(&scene, "john", Some("data.duration > 60")).await;
    scene.pass(std::time::Duration::from_secs(1)).await;
    let publish = Publish {
        account: endpoint.account.to_string(),
        event_type: "video.created".to_owned(),
        data: Bytes::from_static(br#"{"duration":30}"#),
        ..Publish::default()
    };
    let engine = &scene.engine;
    let published = engine.publish(Scope::OPERATOR, publish, None).await.unwrap();
    scene.pass(std::time::Duration::from_secs(1)).await;
    let filter = Some(Some("data.duration > 10".to_owned()));
    let edit = EndpointEdit { filter, ..EndpointEdit::default() };
    engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    let story = engine.event(Scope::OPERATOR, published.id).await.unwrap();
    assert_eq!(story.fates[0].delivery, Err(NoDelivery::Filter));
    assert_eq!(story.fates[0].detail, None);
}

#[tokio::test(start_paused = true)]
async fn a_filter_can_be_tried_on_data_or_a_sample_by_its_owner() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::JoggV2, "john").await;
    let new = NewEndpoint {
        url: "https://hooks.customer.com/a".to_owned(),
        filter: Some("data.duration > 60".to_owned()),
        ..NewEndpoint::default()
    };
    let endpoint = scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    let own = as_account(&account);
    let attempt = |scope, trial| scene.engine.test_filter(scope, endpoint.id, trial);

    let said = attempt(own, FilterTrial::default()).await.unwrap();
    assert_eq!(said.sentence, "rejected because data.duration = 30 is not > 60");
    let of_type = |name: &str| Some(name.to_owned());
    let trial =
        FilterTrial { event_type: of_type("create_avatar_failed"), ..FilterTrial::default() };
    let said = attempt(own, trial).await.unwrap();
    assert_eq!(said.sentence, "rejected because data.duration is not there");
    let trial = FilterTrial {
        filter: Some("data.n == 1 && 'v1' in entity_ids".to_owned()),
        data: Some(Bytes::from_static(br#"{"n":1}"#)),
        entity_ids: vec!["v1".to_owned()],
        ..FilterTrial::default()
    };
    assert_eq!(attempt(own, trial.clone()).await.unwrap().verdict, Verdict::Passes);

    let stranger = as_account(&scene.account(Contract::JoggV2, "jane").await);
    let error = attempt(stranger, trial).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    let filter = Some("data.n = 1".to_owned());
    let error = attempt(own, FilterTrial { filter, ..FilterTrial::default() }).await.unwrap_err();
    assert_eq!(
        error.message(),
        "filter: is wrong at line 1, character 8: `=` does not compare; use `==`"
    );
    let trial = FilterTrial { event_type: of_type("nothing"), ..FilterTrial::default() };
    assert!(attempt(own, trial).await.unwrap_err().message().starts_with("type: "));
}
