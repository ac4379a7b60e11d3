//! What is in a folder, for listings.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};

use super::open::{elsewhere, is_absence, name_of};

/// Names that a listing shows at most.
const MOST: usize = 10_000;

/// What is in a folder.
#[derive(Debug)]
pub struct Listing {
    /// Names in order, and whether each is a folder.
    pub entries: Vec<(Vec<u8>, bool)>,
    /// There are more.
    pub more: bool,
}

/// Reads a folder below a root. `None`: it is not there, or may not be read. What is neither a file nor a folder is left out, links among them: where they
/// lead is found out when they are asked for.
pub(super) async fn read(
    root: &Arc<OwnedFd>,
    name: &[u8],
    symlinks: bool,
    dotfiles: bool,
) -> io::Result<Option<Listing>> {
    let (root, name) = (Arc::clone(root), name.to_vec());
    elsewhere(move || {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if !symlinks {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(root.as_fd(), name_of(&name), flags, Mode::empty(), resolve) {
            Err(error) if is_absence(error) => return Ok(None),
            folder => folder?,
        };
        let mut listing = Listing { entries: Vec::new(), more: false };
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = entry.file_type();
            let shown = !matches!(name, b"." | b"..") && (dotfiles || !name.starts_with(b"."));
            if !shown || !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Unknown) {
                continue;
            }
            if listing.entries.len() == MOST {
                listing.more = true;
                break;
            }
            listing.entries.push((name.to_vec(), kind == FileType::Directory));
        }
        listing.entries.sort();
        Ok(Some(listing))
    })
    .await?
}
