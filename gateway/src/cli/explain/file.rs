//! Which file a request would get.

use probegate_policies::files::name;
use probegate_policies::route::PathPrefix;

use crate::plan::{Files, Missing};

/// What a request for this canonical path meets on a route with files. Looks at the disk as anybody could: what the gateway would not follow, it may see here.
pub(super) fn text(files: &Files, route: &PathPrefix, path: &[u8]) -> String {
    let root = files.root.display();
    if files.internal {
        return format!("passes, but only the app may point below {root}: 404");
    }
    let Some(found) = name::of(path, route, files.dotfiles) else {
        return format!("passes, but no file below {root} is served by this name: {}", otherwise(files));
    };
    let relative = String::from_utf8_lossy(found.relative);
    let place = files.root.join(&*relative);
    let is_folder = place.is_dir();
    if is_folder && !found.folder {
        return format!("passes: folder `{relative}` below {root}, 301 to the same path with a slash");
    }
    let (shown, place) = match (&files.index, found.folder) {
        (Some(index), true) if is_folder => (format!("{relative}/{index}"), place.join(&**index)),
        _ => (relative.into_owned(), place),
    };
    let shown = shown.trim_start_matches('/');
    if place.is_file() && (!found.folder || is_folder) {
        return format!("passes: file `{shown}` below {root} answers");
    }
    if is_folder && files.listing {
        return format!("passes: a listing of `{shown}` below {root} answers");
    }
    match &files.fallback {
        Some(fallback) if name::may_stand_in(path, found) => {
            format!("passes: there is no file `{shown}` below {root}; `{fallback}` answers (`try`)")
        }
        _ => format!("passes, but there is no file `{shown}` below {root}: {}", otherwise(files)),
    }
}

fn otherwise(files: &Files) -> &'static str {
    match files.missing {
        Missing::NotFound => "404",
        Missing::App => "the app is asked",
    }
}
