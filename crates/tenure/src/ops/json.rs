use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tenure_core::Value;

use crate::error::{Error, Result};

/// What a recipe takes as a value of its user's: bytes in any form, or [`Json`].
pub trait IntoValue {
    /// The bytes to write.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what cannot be written so.
    fn into_value(self) -> Result<Bytes>;
}

impl<T: Into<Value>> IntoValue for T {
    fn into_value(self) -> Result<Bytes> {
        Ok(self.into().into_bytes())
    }
}

/// A value of a type of one's own, written as JSON.
///
/// ```
/// use tenure::Json;
///
/// # fn main() -> tenure::Result<()> {
/// let Json(place) = Json::<(String, u16)>::read(br#"["eu", 443]"#)?;
/// assert_eq!(place, ("eu".to_owned(), 443));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> Json<T> {
    /// Reads what was written so.
    ///
    /// # Errors
    ///
    /// `Protocol` if the bytes are not JSON, or not of this type. The text says where, and nothing
    /// of what is there.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let text = format!("not the JSON of this type, at line {line}, column {column}");
            Error::new(crate::ErrorKind::Protocol, "value", text)
        })
    }
}

impl<T: Serialize> IntoValue for Json<T> {
    fn into_value(self) -> Result<Bytes> {
        let written = serde_json::to_vec(&self.0);
        // The source's text may quote the value.
        written.map(Bytes::from).map_err(|_| Error::invalid("value", "JSON has no form for it"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_written_as_json_is_read_again() {
        let jobs = BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
        let bytes = Json(&jobs).into_value().unwrap();
        let Json(read) = Json::<BTreeMap<String, Vec<u8>>>::read(&bytes).unwrap();
        assert_eq!(read, BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]));
    }

    #[test]
    fn errors_tell_the_place_and_not_the_value() {
        let error = Json::<u8>::read(b"\"secret\"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(!error.to_string().contains("secret"), "{error}");
        let no_key = BTreeMap::from([(vec![1], "secret")]);
        let error = Json(no_key).into_value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
