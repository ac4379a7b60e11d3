//! Reusable byte buffers. A connection holds one only while bytes are there.

/// Bytes between `start` and `end` are filled; the memory behind them is ready to be read into.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer of this size in bytes.
    pub fn new(size: usize) -> Self {
        Self { memory: vec![0; size], start: 0, end: 0 }
    }

    /// The bytes that are there.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes that are there, to be changed in place.
    #[inline]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Room behind the filled bytes.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.end..).unwrap_or_default()
    }

    /// How much fits behind the filled bytes.
    #[inline]
    pub fn room(&self) -> usize {
        self.memory.len() - self.end
    }

    /// How many bytes are filled.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// `n` bytes of the room have been filled.
    #[inline]
    pub fn fill(&mut self, n: usize) {
        self.end = (self.end + n).min(self.memory.len());
    }

    /// The first `n` filled bytes are done with.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Keeps only the first `n` filled bytes.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }

    /// Forgets all filled bytes.
    #[inline]
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Moves the filled bytes to the front, so that all room is behind them.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Copies as much of `bytes` as fits and says how much that was.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let n = spare.len().min(bytes.len());
        if let (Some(to), Some(from)) = (spare.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.fill(n);
        n
    }

    /// The size of the memory in bytes.
    pub fn size(&self) -> usize {
        self.memory.len()
    }

    /// Makes the memory at least `size` bytes large; keeps what is filled.
    pub fn grow(&mut self, size: usize) {
        if size > self.memory.len() {
            self.memory.resize(size, 0);
        }
    }
}
