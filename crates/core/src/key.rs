use bytes::Bytes;

/// The bytes of a key, made of whatever holds them: a borrowed string is copied, an owned one or
/// [`Bytes`] is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Implements `From` of everything that bytes are made of, for a type that has `from_bytes`.
macro_rules! from_bytes_like {
    ($target:ty) => {
        from_bytes_like!($target, owned: Bytes, String, Vec<u8>);
        from_bytes_like!($target, borrowed: &str, &String, &[u8], &Vec<u8>);

        impl<const N: usize> From<&[u8; N]> for $target {
            fn from(bytes: &[u8; N]) -> Self {
                Self::from_bytes(Bytes::copy_from_slice(bytes))
            }
        }

        impl From<&Bytes> for $target {
            fn from(bytes: &Bytes) -> Self {
                Self::from_bytes(bytes.clone())
            }
        }
    };
    ($target:ty, owned: $($source:ty),*) => {$(
        impl From<$source> for $target {
            fn from(bytes: $source) -> Self {
                Self::from_bytes(bytes.into())
            }
        }
    )*};
    ($target:ty, borrowed: $($source:ty),*) => {$(
        impl From<$source> for $target {
            fn from(bytes: $source) -> Self {
                let bytes: &[u8] = bytes.as_ref();
                Self::from_bytes(Bytes::copy_from_slice(bytes))
            }
        }
    )*};
}

pub(crate) use from_bytes_like;

impl Key {
    fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

from_bytes_like!(Key);

/// The bytes of a value, made like those of a [`Key`]. Its `Debug` form tells only the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Bytes);

impl Value {
    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

from_bytes_like!(Value);

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}
