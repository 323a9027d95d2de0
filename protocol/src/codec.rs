//! The services' codec: tonic's for Protocol Buffers, with smaller buffers.
//!
//! In: generated messages, bytes. Out: the other. Never: eight kibibytes for each way of each stream, as tonic has them, of
//! which a controller holds thousands and most are silent. A buffer grows with a message that needs it.

use std::marker::PhantomData;

use tonic::codec::BufferSettings;
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Room in a buffer from the start: most messages take less.
const BUFFER: usize = 512;
/// So much is written at once, of several messages: as tonic has it.
const YIELD: usize = 32 << 10;

pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD))
    }
}
