use std::{fmt, marker::PhantomData};

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Protobuf, with a decoding failure that can be told from a server's answer.
#[derive(Debug)]
pub(super) struct Protobuf<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Default for Protobuf<Q, A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// An answer that is not the message it should be.
#[derive(Debug)]
pub(super) struct Undecodable(prost::DecodeError);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer cannot be decoded: {}", self.0)
    }
}

impl std::error::Error for Undecodable {}

/// tonic allocates such a buffer for each question and each answer, 8 KiB unless told: more than
/// malloc keeps at hand. Where a message is larger the buffer grows once.
fn small_buffers() -> BufferSettings {
    BufferSettings::new(512, 32 * 1024)
}

impl<Q, A> Codec for Protobuf<Q, A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<Q: Message + 'static, A> Encoder for Protobuf<Q, A> {
    type Item = Q;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        small_buffers()
    }

    fn encode(&mut self, message: Q, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::from_error(Box::new(error)))
    }
}

impl<Q, A: Message + Default + 'static> Decoder for Protobuf<Q, A> {
    type Item = A;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        small_buffers()
    }

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        A::decode(buffer)
            .map(Some)
            .map_err(|error| Status::from_error(Box::new(Undecodable(error))))
    }
}
