use tonic::metadata::MetadataMap;

/// The token that came with a call, if one did.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<String>);

impl Token {
    /// It is in `token`, or in `authorization` as clients of old send it.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let found = metadata.get("token").or_else(|| metadata.get("authorization"));
        // One that is no text is none that was ever given, but not the same as none at all.
        Self(found.map(|token| String::from_utf8_lossy(token.as_encoded_bytes()).into_owned()))
    }

    pub(crate) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}
