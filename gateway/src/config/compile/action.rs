//! Who answers a route.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Component, Path, PathBuf};

use probegate_policies::files::{CacheRule, Types};

use super::Context;
use crate::config::shape::{List, Named};
use crate::config::value::{
    AbsentWord, CacheControlWord, FileName, FilePath, Flag, IndexWord, Leaf, MediaType, NamePattern,
};
use crate::config::{ConfigPath, raw};
use crate::plan::{Action, Files, Missing};

/// Keys that a route says and that would mean nothing beside some actions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// `allow`: who may enter.
    pub(super) guarded: bool,
    /// For the app alone.
    pub(super) asking: [(&'static str, bool); 3],
    /// For answers to the requests of the route.
    pub(super) answering: [(&'static str, bool); 5],
}

/// The action that a route says.
pub(super) fn action(files: Option<raw::Files>, route: &ConfigPath, beside: Beside, cx: &mut Context<'_>) -> Action {
    let path = route.key("files");
    let Some(files) = files.and_then(|files| self::files(files, &path, cx)) else { return Action::Forward };
    let said = |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, said)| *said).map(|(key, _)| *key).collect();
    let asking: Vec<_> = if files.missing == Missing::App { Vec::new() } else { said(&beside.asking) };
    for key in asking {
        let message = format!("`{key}` is for an app, and none is asked on this route");
        cx.key_error(&route.key(key), message, "remove it, or have the app asked with `files: {missing: app}`");
    }
    let answering: Vec<_> = if files.internal { said(&beside.answering) } else { Vec::new() };
    for key in answering {
        let message = format!("`{key}` has no effect on an `internal` route: its files answer other requests");
        cx.key_error(&route.key(key), message, "write it at the route of the requests that the app answers");
    }
    if files.internal && beside.guarded {
        let message = "nobody may enter an `internal` route anyway: only the app points there";
        cx.key_error(&route.key("allow"), message, "let the app decide, and remove this, or remove `internal`");
    }
    Action::Files(Box::new(files))
}

fn files(raw: raw::Files, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Files> {
    let raw::Files {
        root,
        index,
        fallback,
        missing,
        precompressed,
        cache_control,
        types,
        listing,
        dotfiles,
        symlinks,
        internal,
        x_sendfile,
    } = raw;
    let flag = |flag: Option<Leaf<Flag>>, default: bool| flag.map_or(default, |Leaf(Flag(flag))| flag);
    let index = index.map_or_else(|| Some("index.html".into()), |Leaf(IndexWord(index))| index);
    let fallback = fallback.map(|Leaf(FileName(name))| name);
    let missing = missing.map_or(Missing::NotFound, |Leaf(AbsentWord(missing))| missing);
    let (listing, dotfiles, symlinks) = (flag(listing, false), flag(dotfiles, false), flag(symlinks, true));
    let (precompressed, internal, x_sendfile) =
        (flag(precompressed, false), flag(internal, false), flag(x_sendfile, false));
    let cache = caching(cache_control, &path.key("cache_control"), cx);
    let types = self::types(types, &path.key("types"), cx);
    if missing == Missing::App {
        if fallback.is_some() {
            let hint = "keep one of the two; an app below the same path needs a route of its own";
            cx.key_error(
                &path.key("missing"),
                "`try` and `missing: app` both say what answers where there is no file",
                hint,
            );
        }
        if internal {
            let hint = "remove one of the two";
            cx.key_error(
                &path.key("missing"),
                "the app that points to an `internal` file can not be asked again for it",
                hint,
            );
        }
    }
    if internal && fallback.is_some() {
        cx.key_error(&path.key("try"), "nobody browses an `internal` route", "remove `try` or `internal`");
    }
    if internal && listing {
        cx.key_error(&path.key("listing"), "nobody browses an `internal` route", "remove `listing` or `internal`");
    }
    let Leaf(FilePath(root)) = cx.required(root, path, "root", "root: static/")?;
    let written = root.display().to_string();
    let root = cx.environment().resolve(&root);
    if let Err(error) = cx.environment().is_folder(&root) {
        let message = format!("folder `{written}` cannot be used: {error}");
        cx.error(&path.key("root"), message, "make the folder, or write the path of one that is there");
    }
    let sendfile = x_sendfile.then(|| absolute(&root));
    let mut hasher = DefaultHasher::new();
    (&root, &index, precompressed, symlinks).hash(&mut hasher);
    Some(Files {
        root,
        key: hasher.finish(),
        index,
        fallback,
        missing,
        precompressed,
        cache,
        types,
        listing,
        dotfiles,
        symlinks,
        internal,
        sendfile,
    })
}

/// A path as an app writes it: from the root of the file system, without detours. Nothing is asked of the file system, so that links stay what they are
/// called.
fn absolute(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn caching(raw: Option<List<raw::CacheControl>>, path: &ConfigPath, cx: &mut Context<'_>) -> Box<[CacheRule]> {
    let mut rules: Vec<CacheRule> = Vec::new();
    for (index, rule) in raw.into_iter().flatten() {
        let path = path.index(index);
        let raw::CacheControl { pattern, set } = rule;
        let pattern = cx.required(pattern, &path, "match", "match: \"*.css\"");
        let value = cx.required(set, &path, "set", "set: no-cache");
        let (Some(Leaf(NamePattern(pattern))), Some(Leaf(CacheControlWord(value)))) = (pattern, value) else {
            continue;
        };
        if rules.iter().any(|rule| rule.pattern == pattern) {
            cx.error(
                &path.key("match"),
                "this pattern stands above already, and the first one counts",
                "remove one of the two",
            );
        }
        rules.push(CacheRule { pattern, value });
    }
    rules.into()
}

fn types(raw: Option<Named<Leaf<MediaType>>>, path: &ConfigPath, cx: &mut Context<'_>) -> Types {
    let mut own = Vec::new();
    for (ending, kind) in raw.into_iter().flatten() {
        let Some(Leaf(MediaType(kind))) = kind else { continue };
        let bare = ending.trim_start_matches(['.', '*']);
        if bare != &*ending || bare.is_empty() || bare.contains(['.', '/']) {
            let last = bare.rsplit(['.', '/']).next().unwrap_or_default();
            let hint = format!("write `{last}`: what stands behind the last dot of a name");
            cx.key_error(&path.key(&ending), format!("`{ending}` is not the ending of a name"), hint);
        }
        own.push((bare.to_ascii_lowercase().into(), kind));
    }
    Types { own: own.into() }
}
