//! What a server says first: the list of its references, a line each, as gitprotocol-common(5) has them. It is
//! looked at before libgit2 keeps all of it, and before git2 panics at a name that is not UTF-8, which any branch
//! and any tag may have.

use std::io::{self, BufReader, Cursor, Read};

use super::errors::failure;

/// How much of it is taken: some two million references, and few servers have a tenth of that.
const MOST: u64 = 128 * 1024 * 1024;
/// How many digits tell the length of a line; they are counted, too.
const DIGITS: u64 = 4;

/// A server, of which the list is read first.
pub struct Advertisement<R> {
    server: BufReader<R>,
    /// How many of its parts are to come: each ends with a line of its own.
    parts: u32,
    /// How much of it may come.
    left: u64,
    line: Cursor<Vec<u8>>,
}

impl<R: Read> Advertisement<R> {
    /// Where the list has so many parts. What comes after it is left as it is.
    pub fn of(server: R, parts: u32) -> Self {
        Self {
            server: BufReader::new(server),
            parts,
            left: MOST,
            line: Cursor::default(),
        }
    }

    /// Reads the next line, or what is there of it; says whether there is something.
    fn next(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        (&mut self.server).take(DIGITS).read_to_end(&mut line)?;
        match length(&line) {
            Some(0) => self.parts -= 1,
            Some(length) => {
                let rest = length.saturating_sub(DIGITS);
                (&mut self.server).take(rest).read_to_end(&mut line)?;
            }
            // It is none: libgit2 says so.
            None => self.parts = 0,
        }
        self.left = self
            .left
            .checked_sub(line.len() as u64)
            .ok_or_else(|| failure("the list of its branches and tags has no end"))?;
        self.line = Cursor::new(as_text(line));
        Ok(!self.line.get_ref().is_empty())
    }
}

impl<R: Read> Read for Advertisement<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.line.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.parts == 0 {
                return self.server.read(buffer);
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}

/// The length of the line that begins like this, as it says.
fn length(line: &[u8]) -> Option<u64> {
    let is_whole = line.len() as u64 == DIGITS && line.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(line).ok().filter(|_| is_whole)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The line, as long as it was. A name that was no text is one that no reference can have, and so none that is
/// followed.
fn as_text(line: Vec<u8>) -> Vec<u8> {
    let line = match String::from_utf8(line) {
        Ok(line) => return line.into_bytes(),
        Err(error) => error.into_bytes(),
    };
    let mut text = Vec::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.resize(text.len() + chunk.invalid().len(), b'?');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(server: &[u8], parts: u32) -> Vec<u8> {
        let mut list = Advertisement::of(server, parts);
        let (mut all, mut more) = (Vec::new(), [0; 3]);
        loop {
            match list.read(&mut more).unwrap() {
                0 => return all,
                read => all.extend_from_slice(&more[..read]),
            }
        }
    }

    #[test]
    fn what_is_text_stays_as_it_is() {
        for server in [
            &b""[..],
            b"0000",
            b"0009main\n0000pack\xff",
            b"000agr\xc3\xb6\xc3\x9fe0000",
            // The second list is of another part.
            b"0009main\n00000009next\n0000\xff",
        ] {
            assert_eq!(read(server, 1), server);
            assert_eq!(read(server, 0), server);
        }
    }

    #[test]
    fn a_name_that_is_no_text_becomes_one_of_the_same_length() {
        assert_eq!(read(b"0009ma\xff\xc3\n0000\xff", 1), b"0009ma??\n0000\xff");
        assert_eq!(
            read(b"0005\xff00000005\xff0000", 1),
            b"0005?00000005\xff0000"
        );
        assert_eq!(read(b"0005\xff00000005\xff0000", 2), b"0005?00000005?0000");
    }

    #[test]
    fn what_is_no_list_is_left_to_libgit2() {
        for server in [
            &b"00"[..],
            b"nothing",
            b"+009main\n",
            b"001",
            b"0009ma",
            b"0001",
            b"0004",
        ] {
            let server = [server, b"0000"].concat();
            assert_eq!(read(&server, 1), server.as_slice());
        }
    }

    #[test]
    fn a_list_without_an_end_has_one() {
        let mut list = Advertisement::of(io::repeat(b'1'), 1);
        let read = io::copy(&mut list, &mut io::sink());
        assert!(read.unwrap_err().to_string().contains("no end"));
    }
}
