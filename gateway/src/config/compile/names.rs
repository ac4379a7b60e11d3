//! Things that are defined by name and used elsewhere.

use std::cell::Cell;

use super::Context;
use crate::config::value::{Name, Word as _};
use crate::config::{ConfigPath, suggest};

/// Definitions of one kind.
pub(in crate::config) struct Names<T> {
    kind: &'static str,
    key: &'static str,
    entries: Vec<Entry<T>>,
    /// Whether the definitions as a whole could not be read: then nothing is known to be undefined.
    broken: bool,
}

/// One definition.
pub(in crate::config) struct Entry<T> {
    pub(in crate::config) name: Box<str>,
    /// Where it is written; `None` when it is built in.
    pub(in crate::config) path: Option<ConfigPath>,
    /// `None` when it is defined, but broken.
    pub(in crate::config) value: Option<T>,
    used: Cell<bool>,
}

impl<T> Names<T> {
    /// `kind` is what people call one of them, `key` where they are defined.
    pub(super) fn new(kind: &'static str, key: &'static str, cx: &Context<'_>) -> Self {
        Self { kind, key, entries: Vec::new(), broken: cx.is_broken(&ConfigPath::root().key(key)) }
    }

    /// Defines a name; reports one that cannot be a name.
    pub(super) fn define(&mut self, name: Box<str>, value: Option<T>, cx: &mut Context<'_>) {
        let path = ConfigPath::root().key(self.key).key(&name);
        check(&name, &path, cx);
        self.entries.push(Entry { name, path: Some(path), value, used: Cell::new(false) });
    }

    /// Defines a name that is there without being written.
    pub(super) fn define_builtin(&mut self, name: &str, value: T) {
        self.entries.push(Entry { name: name.into(), path: None, value: Some(value), used: Cell::new(false) });
    }

    /// What a name stands for; reports it as undefined if it stands for nothing. `path` is where it is used.
    pub(super) fn find(&self, name: &str, path: &ConfigPath, cx: &mut Context<'_>) -> Option<&T> {
        if let Some(entry) = self.entries.iter().find(|entry| &*entry.name == name) {
            entry.used.set(true);
            return entry.value.as_ref();
        }
        if !self.broken {
            let (kind, key) = (self.kind, self.key);
            let known = self.entries.iter().map(|entry| &*entry.name);
            let hint = suggest::hint(name, known, &format!("the names under `{key}` are"));
            let hint = hint.unwrap_or_else(|| format!("define it under `{key}`"));
            let message = format!("{kind} `{name}` is not defined");
            // A token may stand where the name of its set should.
            if key == "tokens" {
                cx.error_about(path, message, format!("this {kind} is not defined"), hint);
            } else {
                cx.error(path, message, hint);
            }
        }
        None
    }

    /// All of them.
    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.iter()
    }

    /// What people call one of them.
    pub(in crate::config) fn kind(&self) -> &'static str {
        self.kind
    }
}

impl<T> Entry<T> {
    /// Whether anything uses it.
    pub(in crate::config) fn is_used(&self) -> bool {
        self.used.get()
    }
}

/// Reports a name that is none.
pub(super) fn check(name: &str, path: &ConfigPath, cx: &mut Context<'_>) {
    if Name::from_text(name).is_err() {
        cx.key_error(path, format!("`{name}` is not a name"), "a name has letters, digits, `_` and `-`, at most 64");
    }
}
