//! The calls that prepare a sender, and what their answers give to later calls.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::client::{Answer, Client, Outgoing};
use super::description::Call;
use super::template::Values;

/// Makes the calls in order; `values` grows by what they capture.
pub(crate) async fn run(calls: &[Call], client: &mut Client, values: &mut Values) -> Result<()> {
    for (index, call) in calls.iter().enumerate() {
        let outgoing = filled(call, values)?;
        let place = format!("set-up call {}: {} {}", index + 1, outgoing.method, outgoing.path);
        let answer = client.exchange(outgoing).await.context(place.clone())?;
        let captured = captured(call, &answer).context(place)?;
        values.extend(captured);
    }
    Ok(())
}

fn filled(call: &Call, values: &Values) -> Result<Outgoing> {
    let value = |name: &str| values.get(name).map(String::as_str);
    let header = |(name, template): (&String, &super::template::Template)| {
        Ok((name.clone(), template.fill(value)?))
    };
    Ok(Outgoing {
        method: call.method.clone(),
        path: call.path.fill(value)?,
        headers: call.headers.iter().map(header).collect::<Result<_>>()?,
        body: call.body.fill(value)?,
    })
}

/// What a call captures from its answer.
fn captured(call: &Call, answer: &Answer) -> Result<Values> {
    ensure!(call.accepts(answer.status), "it was answered {}: {}", answer.status, answer.excerpt());
    if call.capture.is_empty() {
        return Ok(Values::new());
    }
    let json: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("its answer is not JSON: {}", answer.excerpt()))?;
    let capture = |(name, pointer): (&String, &String)| {
        let text = match json.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(plain @ (Value::Number(_) | Value::Bool(_))) => plain.to_string(),
            Some(_) => bail!("`{name}`: {pointer} of its answer is no text, number or boolean"),
            None => bail!("`{name}`: its answer has no {pointer}: {}", answer.excerpt()),
        };
        Ok((name.clone(), text))
    };
    call.capture.iter().map(capture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(toml: &str) -> Call {
        toml::from_str(toml).unwrap()
    }

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer { status, body: body.into() }
    }

    #[test]
    fn texts_numbers_and_booleans_are_captured_from_anywhere_in_an_answer() {
        let call = call("path = '/'\ncapture = { id = '/data/0/uid', size = '/size', on = '/on' }");
        let answer = answer(201, r#"{"data":[{"uid":"a-1"}],"size":12,"on":true}"#);
        let values = captured(&call, &answer).unwrap();
        assert_eq!((&*values["id"], &*values["size"], &*values["on"]), ("a-1", "12", "true"));
    }

    #[test]
    fn a_capture_that_is_missing_or_not_plain_shows_the_answer() {
        let call = call("path = '/'\ncapture = { id = '/id' }");
        for (body, said) in [
            (r#"{"uid":"a"}"#, r#"`id`: its answer has no /id: {"uid":"a"}"#),
            (r#"{"id":[1]}"#, "`id`: /id of its answer is no text, number or boolean"),
            ("<html>", "its answer is not JSON: <html>"),
        ] {
            let error = format!("{:#}", captured(&call, &answer(200, body)).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn an_answer_that_does_not_mean_success_ends_the_set_up_and_is_shown() {
        let error = captured(&call("path = '/'"), &answer(401, "who are you?")).unwrap_err();
        assert_eq!(error.to_string(), "it was answered 401: who are you?");
        let tolerant = call("path = '/'\naccepted = [201, 409]");
        assert!(captured(&tolerant, &answer(409, "it exists")).unwrap().is_empty());
        assert!(captured(&tolerant, &answer(200, "")).is_err());
    }

    #[test]
    fn later_calls_are_filled_with_what_was_captured() {
        let call = call("path = '/accounts/{{account}}'\nheaders = { X-Key = '{{key}}' }");
        let values: Values =
            [("account", "a-1"), ("key", "k")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let outgoing = filled(&call, &values).unwrap();
        assert_eq!(outgoing.path, "/accounts/a-1");
        assert_eq!(outgoing.headers, [("X-Key".to_owned(), "k".to_owned())]);
    }
}
