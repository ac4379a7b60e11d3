//! `healthcheck`: asks the admin listener for `/readyz` or `/healthz`, without curl in the image.

use std::process::ExitCode;

use super::ask::{self, PATIENCE, Place, silence};
use super::say;

/// Exit 0 if the gateway is ready; with `live`, if it is alive, whatever speaks against traffic.
pub(super) fn run(address: &Place, live: bool) -> ExitCode {
    let (path, word) = if live { ("/healthz", "alive") } else { ("/readyz", "ready") };
    match ask::ask(address, "GET", path, "") {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((_, body)) => {
            say(&format!("not {word}: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&silence(address, &error, PATIENCE));
            ExitCode::FAILURE
        }
    }
}
