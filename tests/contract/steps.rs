//! The steps of a case as they are written down.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny},
};

/// `s` and `h` are the case's names for a stream and for a call that goes on.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    Call {
        rpc: String,
        req_b64: Base64,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
        #[serde(default)]
        expand: Vec<Expand>,
        #[serde(default)]
        fill: BTreeMap<String, String>,
        #[serde(default)]
        capture: BTreeMap<String, String>,
        want: Want,
        #[serde(default)]
        mask: Vec<String>,
        #[serde(default)]
        loose: Loose,
        #[serde(rename = "req")]
        _req: IgnoredAny,
    },
    Raw {
        path: String,
        body_b64: Base64,
        want: Want,
        #[serde(default)]
        loose: Loose,
    },
    Start {
        h: String,
        rpc: String,
        req_b64: Base64,
        #[serde(rename = "req")]
        _req: IgnoredAny,
    },
    Pending {
        h: String,
        ms: u64,
        want: Want,
    },
    Join {
        h: String,
        want: Want,
    },
    Abort {
        h: String,
    },
    Open {
        s: String,
        rpc: String,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    },
    Send {
        s: String,
        req_b64: Base64,
        #[serde(rename = "rpc")]
        _rpc: IgnoredAny,
        #[serde(rename = "req")]
        _req: IgnoredAny,
    },
    HalfClose {
        s: String,
    },
    Recv {
        s: String,
        #[serde(default = "ten_seconds")]
        ms: u64,
        want: Want,
        #[serde(default)]
        loose: Loose,
    },
    RecvNone {
        s: String,
        ms: u64,
        want: Want,
    },
    Collect {
        s: String,
        n: usize,
        watch_id: Option<i64>,
        /// Events, whether more fragments follow, and the revision of the header.
        observed_batches: Vec<(usize, bool, i64)>,
        want: Want,
        #[serde(default)]
        mask: Vec<String>,
    },
    Snapshot {
        #[serde(default)]
        metadata: BTreeMap<String, String>,
        want: Want,
    },
    Sleep {
        ms: u64,
    },
    Restart {
        sig: Signal,
    },
}

/// What is recorded of an answer. Where there is more than one field, the other is the same for
/// human readers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Want {
    Message {
        #[serde(alias = "events_b64", rename = "resp_b64")]
        bytes: Base64,
    },
    Error {
        err: Refusal,
    },
    Snapshot {
        check: BTreeMap<String, bool>,
    },
    End {
        #[serde(rename = "eof")]
        _eof: bool,
    },
    Nothing {
        #[serde(alias = "none", alias = "pending", rename = "timeout")]
        _timeout: bool,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code_num: i32,
    pub(crate) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expand {
    pub(crate) path: String,
    pub(crate) byte: u8,
    pub(crate) len: usize,
}

/// What of a refusal is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loose {
    pub(crate) message: bool,
    pub(crate) code: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Signal {
    Kill,
    Term,
}

#[derive(Clone, Debug)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Step {
    /// The answer that stands beside it.
    pub(crate) fn want(&self) -> Option<&Want> {
        match self {
            Self::Call { want, .. }
            | Self::Raw { want, .. }
            | Self::Pending { want, .. }
            | Self::Join { want, .. }
            | Self::Recv { want, .. }
            | Self::RecvNone { want, .. }
            | Self::Collect { want, .. }
            | Self::Snapshot { want, .. } => Some(want),
            Self::Start { .. }
            | Self::Abort { .. }
            | Self::Open { .. }
            | Self::Send { .. }
            | Self::HalfClose { .. }
            | Self::Sleep { .. }
            | Self::Restart { .. } => None,
        }
    }

    /// What of a message is not compared.
    pub(crate) fn mask(&self) -> &[String] {
        match self {
            Self::Call { mask, .. } | Self::Collect { mask, .. } => mask,
            _ => &[],
        }
    }

    /// The variables that its answer gives a value to.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &String> {
        let capture = match self {
            Self::Call { capture, .. } => Some(capture),
            _ => None,
        };
        capture.into_iter().flat_map(BTreeMap::keys)
    }

    pub(crate) fn loose(&self) -> Loose {
        match self {
            Self::Call { loose, .. } | Self::Raw { loose, .. } | Self::Recv { loose, .. } => *loose,
            _ => Loose::default(),
        }
    }
}

impl Refusal {
    /// The recorder's library has these words for a connection that is lost.
    pub(crate) fn is_lost_connection(&self) -> bool {
        self.message.starts_with("Stream removed")
    }
}

fn ten_seconds() -> u64 {
    10_000
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut loose = Self::default();
        for name in Vec::<String>::deserialize(from)? {
            match &name[..] {
                "message" => loose.message = true,
                "code" => loose.code = true,
                _ => return Err(D::Error::unknown_variant(&name, &["message", "code"])),
            }
        }
        Ok(loose)
    }
}
