//! The secret that draws whom a limit refuses that is enforced for a share of its keys (`enforce: 10%`): kept in the storage folder, so that who is in stays in over
//! restarts.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::durable;
use crate::limiter::Draw;
use crate::plan::{Limit, Plan};

/// The largest secret that is read.
const LONGEST: u64 = 1024;

/// The one that is kept in the plan's storage folder, where the plan draws at all. Where none is, `draw` is from now on.
pub fn keep(draw: Draw, plan: &Plan) -> Draw {
    let draws = |limit: &Limit| !limit.shared && !limit.shadow && (1..100).contains(&limit.enforced);
    let path = plan.storage.join("limits.secret");
    if draw.kept() == Some(&path) || !plan.limits.iter().any(draws) {
        return draw;
    }
    match read_or_write(&path, draw.text()) {
        Ok(text) => Draw::of(text, Some(path)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "whom a limit with `enforce` refuses is drawn anew at the next start");
            draw
        }
    }
}

/// What is kept there: `text`, where nothing was.
fn read_or_write(path: &Path, text: &str) -> io::Result<Box<str>> {
    match File::open(path) {
        Ok(file) => {
            let mut kept = String::new();
            file.take(LONGEST).read_to_string(&mut kept)?;
            match kept.trim() {
                "" => Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")),
                kept => Ok(kept.into()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            durable::replace(path, format!("{text}\n").as_bytes(), 0o600)?;
            // Another process with this folder may have begun at the same time: what stands there now is what both will find at their next start.
            let kept = std::fs::read_to_string(path)?;
            Ok(kept.trim().into())
        }
        Err(error) => Err(error),
    }
}
