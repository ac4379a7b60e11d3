//! The page that shows what is in a folder.

use std::io;
use std::os::fd::AsFd as _;

use probegate_policies::files::listing;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};

use super::Disk;
use super::open::{Root, is_absence, name_of};

/// Names that are read at most.
const MOST: usize = 10_000;

/// Bytes that a page may have, about.
const LARGEST: usize = 1 << 20;

/// The page of a folder below a root; `path` is how clients call it. `None`: it is not there, or may not be read. What is neither a file nor a folder is
/// left out, links among them: where they lead is found out when they are asked for.
pub(super) async fn page(
    root: &Root,
    name: &[u8],
    path: &[u8],
    (symlinks, dotfiles): (bool, bool),
    disk: Disk<'_>,
) -> io::Result<Option<Vec<u8>>> {
    let (root, name, path) = (root.clone(), name.to_vec(), path.to_vec());
    // All of it elsewhere: there may be ten thousand names.
    let page = disk.wait(move || {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if !symlinks {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(root.folder.as_fd(), name_of(&name), flags, Mode::empty(), resolve) {
            Err(error) if is_absence(error) => return Ok(None),
            folder => folder?,
        };
        let (mut entries, mut more) = (Vec::new(), false);
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = entry.file_type();
            let shown = !matches!(name, b"." | b"..") && (dotfiles || !name.starts_with(b"."));
            if !shown || !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Unknown) {
                continue;
            }
            if entries.len() == MOST {
                more = true;
                break;
            }
            entries.push((name.to_vec(), kind == FileType::Directory));
        }
        entries.sort();
        let mut page = Vec::new();
        listing::write(&path, &entries, more, LARGEST, &mut page);
        Ok(Some(page))
    });
    page.await?
}
