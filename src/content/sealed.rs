//! The fields of a content that sealed sender needs (docs/sealed.md, 3).
//!
//! | tag | value |
//! | --- | --- |
//! | 10 tickets | `count:u8 (1 to 16) \|\| count * ticket:16`: for envelopes to the sender |
//! | 11 sender | `device:u32 \|\| user`: in each sealed content of a session that was not answered |
//! | 12 certificate | the sender's certificate, in the same |
//! | 13 pass | `number:u32 \|\| pass:16`: what a server takes sealed mail for the sender with |
//! | 14 knows pass | `number:u32`: the receiver's pass that the sender has |

use zeroize::Zeroizing;

use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::ticket::Ticket;

/// These fields. What is not there is empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct SealedFields<'a> {
    pub(crate) tickets: &'a [[u8; Ticket::LENGTH]],
    pub(crate) sender: Option<Claimed<'a>>,
    pub(crate) certificate: Option<&'a [u8]>,
    pub(crate) pass: Option<(u32, &'a [u8; 16])>,
    pub(crate) knows_pass: Option<u32>,
}

/// The address that the sender of a sealed content says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed<'a> {
    pub(crate) device: u32,
    pub(crate) user: &'a str,
}

/// Tickets in one content.
pub(crate) const MOST_TICKETS: usize = 16;

/// The tags of these fields.
pub(super) const TICKETS: u8 = 10;
pub(super) const KNOWS_PASS: u8 = 14;
const SENDER: u8 = 11;
const CERTIFICATE: u8 = 12;
const PASS: u8 = 13;

/// Bytes that they take at most: 16 tickets, the longest name and a certificate with it.
pub(super) const MOST_BYTES: usize = 1_024;

impl<'a> SealedFields<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
            && self.sender.is_none()
            && self.certificate.is_none()
            && self.pass.is_none()
            && self.knows_pass.is_none()
    }

    /// Writes them by `field`, in ascending order.
    pub(super) fn write(
        &self,
        mut out: Writer,
        field: impl Fn(Writer, u8, &[u8]) -> Writer,
    ) -> Writer {
        if !self.tickets.is_empty() {
            let tickets = self.tickets.get(..MOST_TICKETS).unwrap_or(self.tickets);
            let count = u8::try_from(tickets.len()).unwrap_or(u8::MAX);
            let value = Zeroizing::new([&[count][..], tickets.as_flattened()].concat());
            out = field(out, TICKETS, &value);
        }
        if let Some(Claimed { device, user }) = self.sender {
            let value = [&device.to_be_bytes()[..], user.as_bytes()].concat();
            out = field(out, SENDER, &value);
        }
        if let Some(certificate) = self.certificate {
            out = field(out, CERTIFICATE, certificate);
        }
        if let Some((number, pass)) = self.pass {
            let value = Zeroizing::new([&number.to_be_bytes()[..], pass].concat());
            out = field(out, PASS, &value);
        }
        if let Some(number) = self.knows_pass {
            out = field(out, KNOWS_PASS, &number.to_be_bytes());
        }
        out
    }

    /// Reads one of them.
    ///
    /// # Errors
    /// [`Error::Malformed`]
    pub(super) fn read(&mut self, tag: u8, value: &'a [u8]) -> Result<(), Error> {
        let mut reader = Reader::new(value);
        match tag {
            TICKETS => {
                let count = usize::from(reader.u8()?);
                let (tickets, rest) = reader.rest().as_chunks();
                let is_whole = tickets.len() == count && rest.is_empty();
                if !is_whole || !(1..=MOST_TICKETS).contains(&count) {
                    return Err(Error::Malformed);
                }
                self.tickets = tickets;
            }
            SENDER => {
                let device = reader.u32()?;
                let user = core::str::from_utf8(reader.rest()).map_err(|_| Error::Malformed)?;
                if device == 0 || !(1..=255).contains(&user.len()) {
                    return Err(Error::Malformed);
                }
                self.sender = Some(Claimed { device, user });
            }
            CERTIFICATE => self.certificate = Some(value),
            PASS => {
                self.pass = Some((reader.u32()?, reader.array()?));
                reader.end()?;
            }
            _ => {
                self.knows_pass = Some(reader.u32()?);
                reader.end()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn read(tag: u8, value: &[u8]) -> Result<(), Error> {
        SealedFields::default().read(tag, value)
    }

    #[test]
    fn each_field_is_read_in_its_one_form_alone() {
        let tickets =
            |count: u8, length: usize| [&[count][..], &Vec::from_iter(0..=254)[..length]].concat();
        for count in 1..=15 {
            let length = 16 * usize::from(count);
            assert_eq!(read(TICKETS, &tickets(count, length)), Ok(()));
            assert_eq!(read(TICKETS, &tickets(count, length - 1)), Err(Error::Malformed));
            assert_eq!(read(TICKETS, &tickets(count - 1, length)), Err(Error::Malformed));
            assert_eq!(read(TICKETS, &tickets(count + 1, length)), Err(Error::Malformed));
        }
        assert_eq!(read(TICKETS, &[&[16][..], &[7; 256]].concat()), Ok(()));
        assert_eq!(read(TICKETS, &[&[17][..], &[7; 272]].concat()), Err(Error::Malformed));
        assert_eq!(read(TICKETS, &[]), Err(Error::Malformed));
        assert_eq!(read(TICKETS, &[0]), Err(Error::Malformed));

        assert_eq!(read(SENDER, b"\0\0\0\x01bob"), Ok(()));
        for refused in [&b""[..], b"\0\0\0\x01", b"\0\0\0\0bob", b"\0\0\0\x01\xff\xfe", b"\0\0\0"] {
            assert_eq!(read(SENDER, refused), Err(Error::Malformed), "{refused:?}");
        }
        let long = |length: usize| {
            [&[0, 0, 0, 1][..], &Vec::from_iter((0..length).map(|_| b'x'))].concat()
        };
        assert_eq!(read(SENDER, &long(255)), Ok(()));
        assert_eq!(read(SENDER, &long(256)), Err(Error::Malformed));

        for (tag, length) in [(PASS, 20), (KNOWS_PASS, 4)] {
            assert_eq!(read(tag, &[1; 20][..length]), Ok(()));
            assert_eq!(read(tag, &[1; 20][..length - 1]), Err(Error::Malformed));
            assert_eq!(read(tag, &[1; 21][..length + 1]), Err(Error::Malformed));
        }
    }
}
