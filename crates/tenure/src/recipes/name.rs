//! Where recipes have their keys.

use bytes::{BufMut, Bytes, BytesMut};
use tenure_core::{
    Key,
    name::{check_name, escape},
};

use crate::error::{Error, Result};

/// A recipe, as its keys and its errors call it.
pub(super) struct Kind {
    /// The segment of the path.
    pub(super) path: &'static str,
    /// What a name of it is called.
    pub(super) name: &'static str,
    /// What a raw prefix for it is called, or a raw key.
    pub(super) prefix: &'static str,
}

impl Kind {
    /// The prefix of all keys of this name.
    pub(super) fn prefix_of(&self, name: &str) -> Result<Bytes> {
        Ok(format!("{}/", self.path_of(name)?).into())
    }

    /// The key of this name, where there is only one.
    pub(super) fn key_of(&self, name: &str) -> Result<Bytes> {
        Ok(self.path_of(name)?.into())
    }

    fn path_of(&self, name: &str) -> Result<String> {
        check_name(name).map_err(|rule| Error::invalid(self.name, rule))?;
        Ok(format!("tenure/{}/{}", self.path, escape(name)))
    }

    /// A raw key or prefix as it is.
    pub(super) fn raw_key(&self, key: Key) -> Result<Bytes> {
        let key = key.into_bytes();
        if key.is_empty() {
            return Err(Error::invalid(self.prefix, "it is empty"));
        }
        Ok(key)
    }

    /// The same where Go's client has them for a prefix: behind exactly one slash more.
    pub(super) fn raw_prefix(&self, prefix: Key) -> Result<Bytes> {
        let prefix = self.raw_key(prefix)?;
        let mut with_slash = BytesMut::with_capacity(prefix.len() + 1);
        with_slash.put(prefix);
        with_slash.put_u8(b'/');
        Ok(with_slash.freeze())
    }
}
