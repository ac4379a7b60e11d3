//! Bodies that wait: for their own end, before an app is asked, or for a client that drinks slowly, after an app has answered.
//!
//! A [`Spool`] keeps bytes in memory up to a bound and behind that in a temporary file that has no name, so that nothing is left when the
//! process is killed. What all spools of the process hold is bounded by a [`Budget`].
//!
//! Invariants: bytes come out in the order they went in; no file is touched on a worker's thread; what was reserved is given back when the spool
//! is dropped.

mod budget;
mod disk;
mod job;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

pub use self::budget::{Budget, Held};
use self::disk::Block;
pub use self::job::Job;
use crate::plan::Buffers;

/// Bytes that are written to the file, or read from it, at a time.
pub const BLOCK: usize = 32 * 1024;

/// Memory of a spool that uses its file: what is on its way into it, and out of it.
const MOVING: u64 = 4 * BLOCK as u64;

/// The bounds of the configuration are reached: nothing more can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the buffers are full")]
pub struct Full;

/// Bytes in the order they came: first those in memory, then those in the file, then those that are not in the file yet.
#[derive(Debug)]
pub struct Spool {
    buffers: Buffers,
    /// In memory for good.
    front: Vec<u8>,
    file: Option<Arc<File>>,
    /// Bytes in the file.
    filed: u64,
    /// Bytes that are being written to it.
    moving: usize,
    /// Behind the file.
    back: Vec<u8>,
    /// Bytes that were taken out.
    taken: u64,
    /// What was taken out stays, so that it can be taken out again.
    kept: bool,
    memory: Held,
    disk: Held,
    /// Memory for what moves is reserved.
    moves: bool,
    /// The file can not be used: everything has to fit into memory from now on.
    broken: bool,
}

/// The next bytes of a spool.
#[derive(Debug)]
pub enum Next {
    /// They were in memory.
    Bytes(Vec<u8>),
    /// They are being read from the file.
    Reading(Job<io::Result<Vec<u8>>>),
    /// There is nothing more for now.
    Nothing,
}

impl Spool {
    /// An empty spool. `kept`: what was taken out stays, for [`Self::rewind`].
    pub fn new(buffers: &Buffers, budget: &Arc<Budget>, kept: bool) -> Self {
        Self {
            disk: budget.disk(buffers.total_disk),
            buffers: buffers.clone(),
            front: Vec::new(),
            file: None,
            filed: 0,
            moving: 0,
            back: Vec::new(),
            taken: 0,
            kept,
            memory: budget.memory(buffers.total_memory),
            moves: false,
            broken: false,
        }
    }

    /// Bytes that went in, less those that were taken out and are not kept.
    pub fn len(&self) -> u64 {
        (self.front.len() + self.moving + self.back.len()) as u64 + self.filed
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a part of any size can be kept without growing beyond what was agreed on: in memory, or with at most `most` bytes in the file.
    pub fn has_room(&self, most: u64) -> bool {
        if self.has_memory() {
            return true;
        }
        // Where the file is broken, what waits in front of it has to be taken out first.
        !self.broken
            && self.back.len() < BLOCK
            && self.filed < most
            && self.disk.has_room(BLOCK as u64)
            && (self.moves || self.memory.has_room(MOVING))
    }

    /// Whether the next part stays in memory.
    pub fn has_memory(&self) -> bool {
        self.filed == 0 && self.back.is_empty() && self.front.len() < self.buffers.memory
    }

    /// Keeps these bytes. When a block has come together, [`Self::overflow`] has to move it.
    ///
    /// # Errors
    /// They can not be kept. Nothing that went in before is lost.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Full> {
        if self.has_memory() && self.memory.reserve(data.len() as u64) {
            self.front.extend_from_slice(data);
            return Ok(());
        }
        if self.broken || !self.moves && !self.memory.reserve(MOVING) {
            return Err(Full);
        }
        self.moves = true;
        if !self.disk.reserve(data.len() as u64) {
            return Err(Full);
        }
        self.back.extend_from_slice(data);
        Ok(())
    }

    /// Begins to move a block into the file, where one has come together. Until [`Self::settle`] was told how that ended, no other is moved.
    ///
    /// Where the disk does not answer in time, the block is lost with the job, and so is the body.
    pub fn overflow(&mut self) -> Option<Job<Block>> {
        if self.back.len() < BLOCK || self.moving > 0 || self.broken {
            return None;
        }
        let bytes = std::mem::take(&mut self.back);
        self.moving = bytes.len();
        let (file, at, folder) = (self.file.clone(), self.filed, self.buffers.folder.clone());
        // However long it takes: a disk that hangs uses up what there is, and not more than that.
        let held = self.memory.more(bytes.len() as u64);
        Some(Job::begin(self.buffers.timeout, move || {
            let block = disk::write(&folder, file, bytes, at);
            drop(held);
            block
        }))
    }

    /// A block was moved, or could not be.
    ///
    /// # Errors
    /// Why it could not be. It is still in memory.
    pub fn settle(&mut self, block: Block) -> io::Result<()> {
        self.moving = 0;
        let Block { mut bytes, file } = block;
        match file {
            Ok(file) => {
                self.file = Some(file);
                self.filed += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.broken = true;
                bytes.append(&mut self.back);
                self.back = bytes;
                Err(error)
            }
        }
    }

    /// Takes the next bytes out.
    pub fn take(&mut self) -> Next {
        let front = self.front.len() as u64;
        let filed = front + self.filed;
        let at = |region: u64| usize::try_from(self.taken - region).unwrap_or(usize::MAX);
        let next = if self.taken < front {
            let end = self.front.len().min(at(0) + BLOCK);
            Next::Bytes(self.front.get(at(0)..end).unwrap_or_default().to_vec())
        } else if self.taken < filed {
            let (Some(file), count) = (self.file.clone(), (filed - self.taken).min(BLOCK as u64)) else {
                return Next::Nothing;
            };
            let from = self.taken - front;
            self.taken += count;
            let held = self.memory.more(count);
            return Next::Reading(Job::begin(self.buffers.timeout, move || {
                let read = disk::read(&file, from, count);
                drop(held);
                read
            }));
        } else if self.moving == 0 && at(filed) < self.back.len() {
            Next::Bytes(self.back.get(at(filed)..).unwrap_or_default().to_vec())
        } else {
            Next::Nothing
        };
        if let Next::Bytes(bytes) = &next {
            self.taken += bytes.len() as u64;
        }
        if !self.kept && self.moving == 0 && self.taken == self.len() {
            self.reset();
        }
        next
    }

    /// Nothing of it will be taken out any more.
    pub fn forget(&mut self) {
        self.reset();
    }

    /// Goes back to the first byte. Only for spools that keep what was taken out.
    pub fn rewind(&mut self) -> bool {
        self.taken = 0;
        self.kept
    }

    /// Whether it can be gone back to the first byte.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Everything was taken out: its room is free again.
    fn reset(&mut self) {
        (self.front, self.back) = (Vec::new(), Vec::new());
        (self.filed, self.taken, self.moves) = (0, 0, false);
        self.put_away();
        self.memory.release();
        self.disk.release();
    }

    /// Closes the file. To free its blocks may take a disk long.
    fn put_away(&mut self) {
        if let Some(file) = self.file.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.put_away();
    }
}
