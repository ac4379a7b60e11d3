//! A transport under a session.

use std::io::{self, IoSlice};

use crate::wire::transport::Transport;

/// A transport as `rustls` sees one.
pub(crate) struct Pipe<'a, T>(pub(crate) &'a T);

impl<T: Transport> io::Read for Pipe<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl<T: Transport> io::Write for Pipe<'_, T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
