//! What etcdctl prints, without what two servers never have in common.

use std::collections::HashMap;

/// An id, in any notation, has at least so many digits.
const ID: usize = 12;

/// The ids that a server has shown, in the order in which it did.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, usize>);

impl Ids {
    /// The text with names for ids, for the endpoint and for times, and without log lines.
    pub(crate) fn plain(&mut self, text: &str, endpoint: &str) -> String {
        let address = endpoint.trim_start_matches("http://");
        let text = text.replace(endpoint, "<endpoint>").replace(address, "<address>");
        let logged = |line: &&str| line.starts_with(r#"{"level":"#);
        let lines: Vec<_> =
            text.lines().filter(|line| !logged(line)).map(|line| self.line(line)).collect();
        lines.join("\n")
    }

    fn line(&mut self, mut line: &str) -> String {
        let mut plain = String::new();
        while let Some(begin) = line.find(in_word) {
            let (before, word) = line.split_at(begin);
            let (word, rest) = word.split_at(word.find(|c| !in_word(c)).unwrap_or(word.len()));
            plain.push_str(before);
            let left = ["remaining(", "\"ttl\":"].iter().any(|label| plain.ends_with(label));
            match word {
                id if is_id(id) => plain.push_str(&self.name(id)),
                _ if left || is_time(word) => plain.push_str("<time>"),
                _ => plain.push_str(word),
            }
            line = rest;
        }
        plain + line
    }

    fn name(&mut self, id: &str) -> String {
        let next = self.0.len() + 1;
        format!("<id {}>", self.0.entry(id.to_owned()).or_insert(next))
    }
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '.'
}

fn is_id(word: &str) -> bool {
    word.len() >= ID && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// How long something took, as Go writes it.
fn is_time(word: &str) -> bool {
    let number = word.trim_end_matches(['s', 'm', 'µ', 'n']);
    number != word && number.contains('.') && number.parse::<f64>().is_ok()
}

#[test]
fn ids_are_told_apart_and_nothing_else_is_touched() {
    let mut ids = Ids::default();
    let first = ids.plain("694d81417acd4a03, http://a:1, 7", "http://a:1");
    assert_eq!(first, "<id 1>, <endpoint>, 7");
    let text = "{\"level\":\"warn\"}\nm/694d81417acd4a0f a:1 694d81417acd4a03 took 1.5ms, 2.5, 10s";
    assert_eq!(ids.plain(text, "http://a:1"), "m/<id 2> <address> <id 1> took <time>, 2.5, 10s");
    let left = r#"remaining(99s) "ttl":99 "TTL":99"#;
    assert_eq!(ids.plain(left, "-"), r#"remaining(<time>) "ttl":<time> "TTL":99"#);
}
