//! What a step of a case comes to, wanted and got alike, so that the two can be compared.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value as Json, json};
use tonic::Code;

use super::messages;
use super::raw::{Received, Status};
use super::steps::{Loose, Want};

/// Longer texts are cut in reports.
const LINE: usize = 1500;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Message(DynamicMessage),
    /// Not one of those that were looked for, or none at all.
    Garbage(String),
    /// What is not compared is left out.
    Refused {
        code: Option<Code>,
        message: Option<String>,
    },
    /// The connection was lost, which each gRPC library has its own words for.
    Broken,
    /// The stream is over, and nothing went wrong.
    End,
    /// Nothing came in the time.
    Nothing,
    /// Which properties a snapshot has.
    Snapshot(BTreeMap<String, bool>),
}

impl Answer {
    /// `kind` is what a message would be.
    pub(crate) fn recorded(want: &Want, kind: Option<&MessageDescriptor>) -> Self {
        match want {
            Want::Message { bytes } => Self::message(&bytes.0, kind),
            Want::Error { err } if err.is_lost_connection() => Self::Broken,
            Want::Error { err } => Self::Refused {
                code: Some(Code::from_i32(err.code_num)),
                message: Some(err.message.clone()),
            },
            Want::Snapshot { check } => Self::Snapshot(check.clone()),
            Want::End { .. } => Self::End,
            Want::Nothing { .. } => Self::Nothing,
        }
    }

    pub(crate) fn unary(got: Result<Bytes, Status>, kind: Option<&MessageDescriptor>) -> Self {
        got.map_or_else(Self::status, |bytes| Self::message(&bytes, kind))
    }

    pub(crate) fn received(got: Received, kind: &MessageDescriptor) -> Self {
        match got {
            Received::Message(bytes) => Self::message(&bytes, Some(kind)),
            Received::End(status) => Self::status(status),
            Received::TimedOut => Self::Nothing,
        }
    }

    pub(crate) fn status(status: Status) -> Self {
        match status {
            Status { broken: true, .. } => Self::Broken,
            Status { code: Code::Ok, .. } => Self::End,
            Status { code, message, .. } => {
                Self::Refused { code: Some(code), message: Some(message) }
            }
        }
    }

    fn message(bytes: &[u8], kind: Option<&MessageDescriptor>) -> Self {
        let decoded = kind.map(|kind| messages::decode(kind, bytes));
        match decoded.unwrap_or_else(|| Err(format!("{bytes:?}"))) {
            Ok(message) => Self::Message(message),
            Err(text) => Self::Garbage(text),
        }
    }

    /// Without what is not to be compared.
    pub(crate) fn comparable(mut self, mask: &[String], loose: Loose) -> Self {
        match &mut self {
            Self::Message(message) => {
                messages::clear_identity(message);
                mask.iter().for_each(|path| messages::mask(message, path));
            }
            Self::Refused { code, message } => {
                code.take_if(|_| loose.code);
                message.take_if(|_| loose.message);
            }
            Self::Broken if loose.code => self = Self::Refused { code: None, message: None },
            _ => {}
        }
        self
    }

    /// As it would stand in the file of further servers.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Message(message) => {
                json!({ "resp_b64": BASE64_STANDARD.encode(message.encode_to_vec()) })
            }
            Self::Refused { code, message } => {
                let code = code.map_or(2, |code| code as i32);
                json!({ "err": { "code_num": code, "message": message } })
            }
            Self::End => json!({ "eof": true }),
            Self::Nothing => json!({ "timeout": true }),
            Self::Snapshot(check) => json!({ "check": check }),
            Self::Garbage(_) | Self::Broken => Json::Null,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Message(message) => messages::text(message),
            Self::Garbage(text) => text.clone(),
            Self::Refused { code, message } => {
                let code = code.map_or_else(|| "any code".to_owned(), |code| format!("{code:?}"));
                format!("{code}: {}", message.as_deref().unwrap_or("any text"))
            }
            Self::Broken => "the connection is lost".to_owned(),
            Self::End => "the stream ends".to_owned(),
            Self::Nothing => "no answer in the time".to_owned(),
            Self::Snapshot(check) => format!("a snapshot: {check:?}"),
        };
        match text.char_indices().nth(LINE) {
            Some((cut, _)) => write!(f, "{}... ({} bytes)", &text[..cut], text.len()),
            None => f.write_str(&text),
        }
    }
}
