//! Requests whose authority is none.
//!
//! etcd's Go client names whole URLs where HTTP/2 wants a host and a port: up to 3.4
//! `http://127.0.0.1:2379` (for calls to one member), in 3.5.0 `#initially=[...]`. h2 takes that
//! for a broken request, before anybody is asked. Nothing here is found by it, so as it comes in
//! it is made the header `host`, of which h2 expects nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tenure::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In HPACK: `:authority` and a value, to be remembered; and `host`. They are as long, and what is
/// remembered of `host` is shorter, so that nothing is forgotten that the client still knows.
const AUTHORITY: u8 = 0x41;
const HOST: u8 = 0x66;

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Method, scheme and path. What may follow them is an authority, and then no more of its kind, so
/// that a header may be there, too. That is where Go has it.
const FIELDS_BEFORE: u8 = 3;

/// A connection that says `host` for `:authority`, where that comes last.
pub(crate) struct AnyAuthority<T> {
    io: T,
    /// None once it is clear that the client has it elsewhere.
    scan: Option<Scan>,
}

impl<T> AnyAuthority<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, scan: Some(Scan { at: At::Skipping(PREFACE) }) }
    }
}

struct Scan {
    at: At,
}

enum At {
    /// Among so many bytes that say nothing of it.
    Skipping(usize),
    /// In the head of a frame, of which so many bytes have come.
    Head([u8; HEAD], usize),
    /// In the first fields of a request.
    Fields(Fields),
}

struct Fields {
    /// What is left of the frame.
    left: usize,
    /// What is left of padding, priority or a string.
    skip: usize,
    /// How many strings the field has that have not begun.
    strings: u8,
    /// How many fields are complete.
    complete: u8,
    step: Step,
}

enum Step {
    Field,
    /// In the index of a name or a field, or a number that is not for us.
    Index,
    Length,
    /// In a length of several bytes, with what it comes to so far, and the next bits' place.
    LongLength(usize, u32),
}

/// What a byte among the fields decides.
enum Found {
    Nothing,
    /// There is no more to see in this request.
    Renamed,
    Elsewhere,
}

impl Scan {
    /// Renames it among the next bytes of the stream. False: there will be none to rename.
    fn pass(&mut self, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Skipping(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.at = At::Head([0; HEAD], 0);
                    }
                    taken
                }
                At::Head(head, seen) => {
                    head[*seen] = bytes[0];
                    *seen += 1;
                    if *seen == HEAD {
                        self.at = after(head);
                    }
                    1
                }
                At::Fields(fields) => {
                    let found = fields.byte(&mut bytes[0]);
                    fields.left -= 1;
                    match found {
                        Found::Elsewhere => return false,
                        Found::Renamed => self.at = skipping(fields.left),
                        Found::Nothing if fields.left == 0 => self.at = skipping(0),
                        Found::Nothing => {}
                    }
                    1
                }
            };
            bytes = &mut bytes[taken..];
        }
        true
    }
}

/// What follows the head of a frame.
fn after(head: &[u8; HEAD]) -> At {
    let [high, middle, low, kind, flags, ..] = *head;
    let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if kind != HEADERS || left == 0 {
        return skipping(left);
    }
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    let skip = padding + priority;
    At::Fields(Fields { left, skip, strings: 0, complete: 0, step: Step::Field })
}

fn skipping(left: usize) -> At {
    if left == 0 { At::Head([0; HEAD], 0) } else { At::Skipping(left) }
}

impl Fields {
    fn byte(&mut self, byte: &mut u8) -> Found {
        if self.skip > 0 {
            self.skip -= 1;
            if self.skip == 0 {
                self.next();
            }
            return self.found();
        }
        match self.step {
            Step::Field => return self.field(byte),
            Step::Index if *byte & 0x80 != 0 => {}
            Step::Index => self.next(),
            Step::Length => match usize::from(*byte & 0x7f) {
                0x7f => self.step = Step::LongLength(0x7f, 0),
                length => self.string(length),
            },
            Step::LongLength(length, shift) => {
                if shift > 21 {
                    return Found::Elsewhere;
                }
                let length = length + (usize::from(*byte & 0x7f) << shift);
                match *byte & 0x80 {
                    0 => self.string(length),
                    _ => self.step = Step::LongLength(length, shift + 7),
                }
            }
        }
        self.found()
    }

    /// The first byte of a field.
    fn field(&mut self, byte: &mut u8) -> Found {
        if *byte == AUTHORITY {
            if self.complete != FIELDS_BEFORE {
                return Found::Elsewhere;
            }
            *byte = HOST;
            return Found::Renamed;
        }
        let (mask, literal) = match *byte {
            0x80.. => (0x7f, false),
            0x40..0x80 => (0x3f, true),
            // How much is remembered; it is no field, but comes before them.
            0x20..0x40 => (0x1f, false),
            _ => (0x0f, true),
        };
        if mask == 0x1f {
            self.complete = self.complete.wrapping_sub(1);
        }
        let index = *byte & mask;
        self.strings = u8::from(literal) + u8::from(literal && index == 0);
        match index == mask {
            true => self.step = Step::Index,
            false => self.next(),
        }
        self.found()
    }

    fn string(&mut self, length: usize) {
        self.skip = length;
        if length == 0 {
            self.next();
        }
    }

    /// A part of the field has ended.
    fn next(&mut self) {
        unimplemented!()
    }

    fn found(&self) -> Found {
        Found::Nothing
    }
}
