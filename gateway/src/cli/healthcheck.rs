//! `healthcheck`: asks the admin listener for `/readyz`, without curl in the image.

use std::process::ExitCode;

use super::ask::{self, Place};
use super::say;

/// Exit 0 if the gateway is ready.
pub(super) fn run(address: &Place) -> ExitCode {
    match ask::ask(address, "GET", "/readyz", "") {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((_, body)) => {
            say(&format!("not ready: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("no answer from {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}
