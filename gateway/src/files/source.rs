//! A file as the source of an answer: its head, then its bytes piece by piece.

use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use probegate_policies::files::Window;
use probegate_policies::reason::Reason;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::coop::consume_budget;

use super::disk::Work;
use super::{Disk, Open};
use crate::wire::buffer::Buffer;
use crate::wire::head::ResponseHead;
use crate::wire::piece::{self, Piece};
use crate::wire::{Framing, Part, ResponseSource};

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Bytes that are read of a large file for its head.
const FIRST: usize = 16 * 1024;

/// A part of a body.
#[derive(Debug)]
pub enum Segment {
    /// These bytes, from this one on.
    Text(Vec<u8>, usize),
    /// A part of a file.
    File(Open, Window),
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text, from) => text.len().saturating_sub(*from) as u64,
            Self::File(_, window) => window.length(),
        }
    }
}

/// An answer that a file gives.
#[derive(Debug)]
pub struct FileSource<'a> {
    head: &'a ResponseHead,
    bytes: &'a [u8],
    buffer: &'a mut Buffer,
    current: Option<Segment>,
    rest: std::vec::IntoIter<Segment>,
    /// Bytes that were not read yet.
    left: u64,
    /// Bytes at the front of the buffer that were given out.
    given: usize,
    /// Nothing was read yet.
    first: bool,
    disk: Disk<'a>,
    /// A piece on its way from the disk.
    reading: Option<Work<io::Result<Vec<u8>>>>,
}

impl<'a> FileSource<'a> {
    /// An answer of this head and these segments. `buffer` is memory for pieces.
    pub fn new(
        disk: Disk<'a>,
        head: &'a ResponseHead,
        bytes: &'a [u8],
        buffer: &'a mut Buffer,
        first: Option<Segment>,
        more: Vec<Segment>,
    ) -> Self {
        buffer.clear();
        let left = first.iter().chain(&more).map(Segment::length).sum();
        Self {
            head,
            bytes,
            buffer,
            current: first,
            rest: more.into_iter(),
            left,
            given: 0,
            first: true,
            disk,
            reading: None,
        }
    }

    /// Reads the next piece into the buffer as far as no disk has to be waited for.
    ///
    /// # Errors
    /// The file is shorter than it was, or its disk fails.
    fn fill(&mut self) -> Result<Filled, Reason> {
        self.buffer.consume(std::mem::take(&mut self.given));
        if !self.buffer.is_empty() || self.left == 0 {
            return Ok(Filled::Yes);
        }
        loop {
            match &mut self.current {
                Some(Segment::Text(text, from)) if *from < text.len() => {
                    let text = text.get(*from..).unwrap_or_default();
                    let text = text.get(..PIECE).unwrap_or(text);
                    self.buffer.grow(text.len());
                    let taken = self.buffer.extend(text);
                    *from += taken;
                    self.left = self.left.saturating_sub(taken as u64);
                    return Ok(Filled::Yes);
                }
                Some(Segment::File(open, window)) if window.start < window.end => {
                    if open.remote {
                        return Ok(Filled::Cold(open.clone(), *window));
                    }
                    let file = &*open.file;
                    // What goes out with the head of a large file needs no more memory than is there: the rest may be sent without.
                    let most = if window.length() > PIECE as u64 && self.first { FIRST } else { PIECE };
                    self.first = false;
                    let want = usize::try_from(window.length()).unwrap_or(most).min(most);
                    self.buffer.grow(want);
                    let room = self.buffer.spare().get_mut(..want).unwrap_or_default();
                    let read = match preadv2(file, &mut [IoSliceMut::new(room)], window.start, ReadWriteFlags::NOWAIT) {
                        Err(Errno::AGAIN) => return Ok(Filled::Cold(open.clone(), *window)),
                        // A file system that can not tell what is in memory: as any server would.
                        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.read_at(room, window.start),
                        Err(Errno::INTR) => continue,
                        read => read.map_err(io::Error::from),
                    };
                    let read = read.map_err(|error| failed(&error))?;
                    self.took(read)?;
                    self.buffer.fill(read);
                    return Ok(Filled::Yes);
                }
                Some(_) => self.current = self.rest.next(),
                None => return Ok(Filled::Yes),
            }
        }
    }

    /// So many bytes of the file were read.
    fn took(&mut self, read: usize) -> Result<(), Reason> {
        if read == 0 {
            return Err(failed(&io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        if let Some(Segment::File(_, window)) = &mut self.current {
            window.start += read as u64;
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(())
    }
}

enum Filled {
    /// There are bytes in the buffer, or nothing is left.
    Yes,
    /// The disk has to be waited for.
    Cold(Open, Window),
}

impl ResponseSource for FileSource<'_> {
    async fn head(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    fn received(&self) -> bool {
        true
    }

    fn view(&self) -> (&ResponseHead, &[u8]) {
        (self.head, self.bytes)
    }

    fn framing(&mut self, _asked_head: bool) -> Result<Framing, Reason> {
        Ok(if self.left == 0 { Framing::None } else { Framing::Length(self.left) })
    }

    fn begin(&mut self, _framing: Framing) {}

    fn has_buffered(&mut self) -> bool {
        // The head goes out with the first bytes. Where a disk has to be waited for, it waits as well: there is still another word to say.
        true
    }

    async fn part(&mut self) -> Result<Part<'_>, Reason> {
        // A file in the page cache never keeps anybody waiting, but for the other connections.
        consume_budget().await;
        if self.reading.is_none()
            && let Filled::Cold(open, window) = self.fill()?
        {
            self.first = false;
            self.reading = Some(self.disk.begin(move || {
                let mut bytes = vec![0; usize::try_from(window.length()).unwrap_or(PIECE).min(PIECE)];
                let read = open.file.read_at(&mut bytes, window.start)?;
                bytes.truncate(read);
                Ok(bytes)
            }));
        }
        if let Some(reading) = &mut self.reading {
            let read = self.disk.end(reading).await;
            self.reading = None;
            let bytes = read.and_then(|read| read).map_err(|error| failed(&error))?;
            self.took(bytes.len())?;
            self.buffer.grow(bytes.len());
            self.buffer.extend(&bytes);
        }
        self.given = self.buffer.len();
        Ok(Part { data: self.buffer.filled(), end: (self.left == 0).then_some(&[]) })
    }

    async fn piece(&mut self) -> Result<Option<Piece>, Reason> {
        if self.first || self.buffer.len() > self.given || self.reading.is_some() {
            return Ok(None);
        }
        let Some(Segment::File(open, window)) = &self.current else { return Ok(None) };
        // The last bytes are read: they come with the end.
        let count = usize::try_from(window.length()).unwrap_or(usize::MAX).saturating_sub(1).min(piece::MOST);
        if count < PIECE || open.remote {
            return Ok(None);
        }
        let piece = Piece { file: Arc::clone(&open.file), at: window.start, count };
        let last = window.start + count as u64 - 1;
        let look = |at| preadv2(&*piece.file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT);
        if matches!(look(piece.at), Err(Errno::AGAIN)) || matches!(look(last), Err(Errno::AGAIN)) {
            // The disk is waited for elsewhere.
            let (file, at) = (Arc::clone(&open.file), window.start);
            let read = self.disk.wait(move || file.read_at(&mut vec![0; count], at)).await;
            read.and_then(|read| read).map_err(|error| failed(&error))?;
        }
        Ok(Some(piece))
    }

    fn sent(&mut self, bytes: usize) {
        if bytes > 0 {
            // Neither the end of the file, nor an error.
            self.took(bytes).ok();
        }
    }

    fn is_reusable(&self) -> bool {
        true
    }

    fn leave_rest(self) {}
}

impl Drop for FileSource<'_> {
    fn drop(&mut self) {
        // Whoever stopped waiting may have left it running.
        self.disk.deadline.disarm();
    }
}

fn failed(error: &io::Error) -> Reason {
    tracing::warn!(%error, "a file can not be read to its end");
    Reason::FileFailed
}
