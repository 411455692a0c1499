//! OLPC canonical JSON, the form that TUF signs: sorted keys, no spaces, only `"` and `\` escaped, integers only.

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// Why a value has no canonical form.
#[derive(Debug, Error)]
pub enum CanonicalError {
    /// The value cannot be written as JSON at all.
    #[error("cannot write the document as JSON")]
    Json(#[from] serde_json::Error),
    /// Canonical JSON knows integers only, so that every implementation writes the same digits.
    #[error("{0} has a fraction; signed documents hold integers, or decimals as text")]
    Fraction(serde_json::Number),
}

/// The bytes that a signature over `value` covers.
///
/// # Errors
/// When `value` is not JSON or holds a number that is not an integer.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let mut bytes = Vec::new();
    write(&serde_json::to_value(value)?, &mut bytes)?;
    Ok(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_f64() => return Err(CanonicalError::Fraction(number.clone())),
        Value::Number(number) => out.extend(number.to_string().into_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_array(items, out)?,
        Value::Object(members) => write_object(members, out)?,
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn write_array(items: &[Value], out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(members: &serde_json::Map<String, Value>, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    // The order of a Map depends on a feature that any crate of the build may switch on; sorting here does not.
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    out.push(b'{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_sorted_and_only_quotes_and_backslashes_escaped() {
        let bytes = canonical_json(&json!({"b": [1, true, null], "a": "x\"\\\n"})).unwrap();
        assert_eq!(bytes, b"{\"a\":\"x\\\"\\\\\n\",\"b\":[1,true,null]}");
    }

    #[test]
    fn a_fraction_cannot_be_signed() {
        assert!(matches!(canonical_json(&json!({"a": 0.5})), Err(CanonicalError::Fraction(_))));
    }
}
