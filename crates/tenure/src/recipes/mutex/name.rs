use bytes::{BufMut, Bytes, BytesMut};
use tenure_core::{
    Key,
    name::{check_name, escape},
};

use crate::error::{Error, Result};

/// Where the contenders for a lock of this name have their keys.
pub(super) fn prefix(name: &str) -> Result<Bytes> {
    check_name(name).map_err(|rule| Error::invalid("lock name", rule))?;
    Ok(format!("tenure/mutex/{}/", escape(name)).into())
}

/// Where Go's client has them for this prefix: behind exactly one slash more.
pub(super) fn raw(prefix: Key) -> Result<Bytes> {
    let prefix = prefix.into_bytes();
    if prefix.is_empty() {
        return Err(Error::invalid("lock prefix", "it is empty"));
    }
    let mut with_slash = BytesMut::with_capacity(prefix.len() + 1);
    with_slash.put(prefix);
    with_slash.put_u8(b'/');
    Ok(with_slash.freeze())
}
