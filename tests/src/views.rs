//! Looking into JSON answers by the names in them, wherever they are nested.

use serde_json::Value;

/// Every value under `key`, at any depth, in document order.
#[must_use]
pub fn all<'a>(json: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    collect(json, key, &mut found);
    found
}

/// Every number under `key`, at any depth.
#[must_use]
pub fn numbers(json: &Value, key: &str) -> Vec<u64> {
    all(json, key).into_iter().filter_map(Value::as_u64).collect()
}

/// Every text under `key`, at any depth.
#[must_use]
pub fn texts<'a>(json: &'a Value, key: &str) -> Vec<&'a str> {
    all(json, key).into_iter().filter_map(Value::as_str).collect()
}

/// The text under `key`, outermost first; panics when there is none.
#[track_caller]
#[must_use]
pub fn text(json: &Value, key: &str) -> String {
    let found = json[key].as_str().into_iter().chain(texts(json, key)).next();
    found.unwrap_or_else(|| panic!("no text '{key}' in {json:#}")).to_owned()
}

fn collect<'a>(json: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                }
                collect(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_at_any_depth() {
        let json = json!({"a": [{"bytes": 1}, {"b": {"bytes": 2, "id": "x"}}]});
        assert_eq!(numbers(&json, "bytes"), [1, 2]);
        assert_eq!(text(&json, "id"), "x");
    }
}
