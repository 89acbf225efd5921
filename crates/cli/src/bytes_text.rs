//! Keys and values, which may be any bytes, as text.

use serde_json::{Map, Value};

/// Adds bytes to an object: as text if they are, else in hexadecimal under `<name>_hex`.
pub(crate) fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
}

/// One line for a person: what could disturb a terminal is escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut line, chunk| {
        for char in chunk.valid().chars() {
            if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
        }
        line.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_shown_all_the_same() {
        assert_eq!(shown("jobs/é".as_bytes()), "jobs/é");
        assert_eq!(shown(b"a\x1b[2Jb\xff\n"), "a\\u{1b}[2Jb\\xff\\n");
        let mut object = Map::new();
        insert(&mut object, "key", b"text");
        insert(&mut object, "value", b"\xff\x00");
        assert_eq!(Value::from(object).to_string(), r#"{"key":"text","value_hex":"ff00"}"#);
    }
}
