//! What the admin listener needs around it, and does not find.

use std::path::Path;

use super::{ConfigPath, Context};
use crate::plan::AdminSocket;

/// A file into which no change could be written.
pub(in crate::config) fn audit(file: &Path, cx: &mut Context<'_>) {
    if let Err(error) = cx.environment().is_appendable(file) {
        let message = format!("no change can be written down in `{}`: {error}", file.display());
        let hint = "make its folder, writable for the user that runs the gateway; a relative path begins at the folder of this file";
        cx.lint(&ConfigPath::root().key("admin").key("audit"), message, hint);
    }
}

/// A socket that could not be made, or that everybody may use.
pub(in crate::config) fn socket(socket: &AdminSocket, path: &ConfigPath, cx: &mut Context<'_>) {
    let folder = socket.path.parent().unwrap_or_else(|| Path::new("/"));
    if let Err(error) = cx.environment().takes_files(folder) {
        let message = format!("no socket can be made in `{}`: {error}", folder.display());
        let hint = "make the folder, writable for the user that runs the gateway (systemd: `RuntimeDirectory=`); a relative path begins at the folder of this file";
        cx.lint(&path.key("path"), message, hint);
    }
    if socket.mode & 0o002 != 0 {
        let mode = socket.mode;
        let message = format!("with `{mode:04o}` everybody on this machine may connect, and do everything");
        let hint = format!("write `\"{:04o}\"`, and name a `group`", mode & !0o007);
        cx.lint(&path.key("mode"), message, hint);
    }
    for (what, name) in [("owner", &socket.owner), ("group", &socket.group)] {
        let Some(name) = name else { continue };
        let known = match what {
            "owner" => cx.environment().knows_user(name),
            _ => cx.environment().knows_group(name),
        };
        if !known {
            let message = format!("there is no {what} `{name}` on this machine: the gateway would not start");
            cx.lint(&path.key(what), message, "name one that is there, or write its number");
        }
    }
}
