//! The file of a spool. Every function here may wait for a disk: none runs on a worker's thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// A block that was to be written.
#[derive(Debug)]
pub struct Block {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The file it is in, or why it is not.
    pub(super) file: io::Result<Arc<File>>,
}

/// Writes a block at this place, into a new file where there is none yet. The file has no name: it is gone with the process.
pub(super) fn write(folder: &Path, file: Option<Arc<File>>, bytes: Vec<u8>, at: u64) -> Block {
    let file = match file {
        Some(file) => Ok(file),
        None => create(folder).map(Arc::new),
    };
    let file = file.and_then(|file| file.write_all_at(&bytes, at).map(|()| file));
    Block { bytes, file }
}

/// A new file; in a new folder, where there is none yet.
fn create(folder: &Path) -> io::Result<File> {
    match tempfile::tempfile_in(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            tempfile::tempfile_in(folder)
        }
        made => made,
    }
}

/// Reads what was written.
pub(super) fn read(file: &File, from: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
