//! Requests whose authority is none.
//!
//! etcd's Go client names URLs where HTTP/2 wants a host and a port: up to 3.4
//! `http://127.0.0.1:2379` (in calls to one member), in 3.5.0 `#initially=[...]`. h2 refuses such
//! requests before anybody is asked. Nothing is found by it here, so as it comes in it is made the
//! header `host`, of which h2 expects nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tenure::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In HPACK: `:authority` with a value, to be remembered; and `host`. They are as long, and what is
/// remembered of `host` takes less room, so that nothing is forgotten that the client still knows.
const AUTHORITY: u8 = 0x41;
const HOST: u8 = 0x66;
/// Method, scheme and path. Only an authority may follow them, and then the headers, of which it
/// can be the first. That is where Go has it.
const FIELDS_BEFORE: u8 = 3;

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
/// Padding and priority, which Go does not send.
const EXTRAS: u8 = 0x28;
/// A longer string begins no request of Go's.
const LONG: u32 = 21;

/// A connection on which a client may name any authority, if it names it last.
pub(crate) struct AnyAuthority<T> {
    io: T,
    /// None once it is clear that the client has it elsewhere.
    scan: Option<At>,
}

impl<T> AnyAuthority<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, scan: Some(At::Skipping(PREFACE)) }
    }
}

/// Where in what the client sends.
enum At {
    /// Among so many bytes that say nothing of it.
    Skipping(usize),
    /// In the head of a frame, of which so many bytes have come.
    Head([u8; HEAD], usize),
    /// In the first fields of a request, with so many bytes of the frame left.
    Fields(Fields, usize),
}

#[derive(Default)]
struct Fields {
    complete: u8,
    /// How many strings the present field has that have not begun.
    strings: u8,
    step: Step,
}

#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Field,
    /// In an index of several bytes.
    Index,
    Length,
    /// In a length of several bytes: what it comes to so far, and the place of the next bits.
    LongLength(usize, u32),
    /// In a string of which so many bytes are left.
    Text(usize),
}

/// What a byte among the fields shows.
#[derive(PartialEq)]
enum Seen {
    Nothing,
    /// All of this request that matters has passed.
    Enough,
    /// The client's requests need no change.
    Elsewhere,
}

impl At {
    /// After the last byte of something.
    fn then(left: usize) -> Self {
        if left == 0 { Self::Head([0; HEAD], 0) } else { Self::Skipping(left) }
    }

    /// After the head of a frame; none if Go does not send such frames.
    fn after(head: [u8; HEAD]) -> Option<Self> {
        let [high, middle, low, kind, flags, ..] = head;
        let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS if flags & EXTRAS != 0 => None,
            HEADERS if left > 0 => Some(Self::Fields(Fields::default(), left)),
            _ => Some(Self::then(left)),
        }
    }

    /// Reads on, and renames what is to be renamed; none if nothing ever will.
    fn pass(mut self, mut bytes: &mut [u8]) -> Option<Self> {
        while let Some(byte) = bytes.first_mut() {
            let mut taken = 1;
            self = match self {
                Self::Skipping(left) => {
                    taken = left.min(bytes.len());
                    Self::then(left - taken)
                }
                Self::Head(mut head, seen) => {
                    head[seen] = *byte;
                    if seen + 1 == HEAD { Self::after(head)? } else { Self::Head(head, seen + 1) }
                }
                Self::Fields(mut fields, left) => match fields.pass(byte) {
                    Seen::Elsewhere => return None,
                    Seen::Nothing if left > 1 => Self::Fields(fields, left - 1),
                    Seen::Nothing | Seen::Enough => Self::then(left - 1),
                },
            };
            bytes = &mut bytes[taken..];
        }
        Some(self)
    }
}

impl Fields {
    fn pass(&mut self, byte: &mut u8) -> Seen {
        let (bits, more) = (usize::from(*byte & 0x7f), *byte & 0x80 != 0);
        match self.step {
            Step::Field if *byte == AUTHORITY && self.complete == FIELDS_BEFORE => {
                *byte = HOST;
                return Seen::Enough;
            }
            Step::Field => {
                let (mask, strings) = match *byte {
                    AUTHORITY | 0x20..0x40 => return Seen::Elsewhere,
                    0x80.. => (0x7f, 0),
                    0x40..0x80 => (0x3f, 1),
                    _ => (0x0f, 1),
                };
                let index = *byte & mask;
                // A name without an index is a string, too.
                self.strings = if index == 0 { 2 * strings } else { strings };
                if index == mask { self.step = Step::Index } else { self.part() }
            }
            Step::Index if more => {}
            Step::Index => self.part(),
            Step::Length if bits == 0x7f => self.step = Step::LongLength(bits, 0),
            Step::Length => self.text(bits),
            Step::LongLength(_, LONG..) => return Seen::Elsewhere,
            Step::LongLength(length, shift) if more => {
                self.step = Step::LongLength(length + (bits << shift), shift + 7);
            }
            Step::LongLength(length, shift) => self.text(length + (bits << shift)),
            Step::Text(left) => self.text(left - 1),
        }
        if self.complete > FIELDS_BEFORE { Seen::Enough } else { Seen::Nothing }
    }

    /// So much of a string is to come.
    fn text(&mut self, left: usize) {
        if left == 0 { self.part() } else { self.step = Step::Text(left) }
    }

    /// The next part of the field, or the next field.
    fn part(&mut self) {
        if self.strings > 0 {
            self.strings -= 1;
            self.step = Step::Length;
        } else {
            self.complete += 1;
            self.step = Step::Field;
        }
    }
}

impl<T: Io> AsyncRead for AnyAuthority<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let scan = self.scan.take();
        self.scan = scan.and_then(|at| at.pass(&mut buf.filled_mut()[before..]));
        Poll::Ready(Ok(()))
    }
}

impl<T: Io> AsyncWrite for AnyAuthority<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    /// Told otherwise, h2 makes a system call of its own for each piece of 256 bytes and more; so it
    /// copies those below 1 KiB together.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{AUTHORITY, At, HOST, PREFACE};

    /// POST and http of the static table, a path, what follows it, and a header.
    fn request(authority: &[u8]) -> Vec<u8> {
        let path = [&[0x44, 0x7f, 0x81, 0x01], &[b'/'; 0x7f + 0x81][..]].concat();
        let path = &path[..];
        frame(1, &[b"\x83\x86", path, authority, b"\x5f\x05grpc1"].concat())
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 4, 0, 0, 0, 1], payload].concat()
    }

    /// What becomes of it in pieces of this length, and whether more may be renamed.
    fn passed(bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut bytes = bytes.to_vec();
        let begin = Some(At::Skipping(PREFACE));
        let at = bytes.chunks_mut(piece).fold(begin, |at, piece| at?.pass(piece));
        (bytes, at.is_some())
    }

    #[test]
    fn an_authority_after_the_path_becomes_a_host_however_it_comes_in() {
        let literal = b"\x41\x07http://";
        // Settings, two requests, a message between them: it looks like a request's fields.
        let message = [&[b'a'; 70][..], &[AUTHORITY; 30]].concat();
        let sent = |request: &[u8]| {
            let parts: [&[u8]; 5] =
                [&[b'P'; PREFACE], &frame(4, &[]), request, &frame(0, &message), request];
            parts.concat()
        };
        let was = request(literal);
        let at = was.windows(literal.len()).position(|part| part == literal).unwrap();
        let mut becomes = was.clone();
        becomes[at] = HOST;
        for piece in [1, 2, 7, 64, 10_000] {
            assert_eq!(passed(&sent(&was), piece), (sent(&becomes), true), "pieces of {piece}");
        }
    }

    #[test]
    fn what_the_client_remembers_is_left_alone_and_may_be_said_again() {
        let remembered = request(b"\xbe");
        let sent = [&[b'P'; PREFACE][..], &remembered].concat();
        assert_eq!(passed(&sent, 5), (sent, true));
    }

    #[test]
    fn nothing_changes_where_a_path_comes_last_or_go_is_not_speaking() {
        let others = [
            b"\x83\x86\x41\x01a\x44\x01/".to_vec(),
            b"\x41\x01a\x83\x86\x44\x01/".to_vec(),
            b"\x3f\xe1\x1f\x83\x86\x44\x01/\x41\x01a".to_vec(),
        ];
        for fields in others {
            let sent = [&[b'P'; PREFACE][..], &frame(1, &fields), &request(b"\x41\x01a")].concat();
            assert_eq!(passed(&sent, 3), (sent, false));
        }
    }
}
