//! Certificate files: read and checked while the configuration is, so that a mistake in them is told with the line that names them.

use std::path::Path;

use super::Context;
use crate::config::{ConfigPath, lint};
use crate::tls::pem::{self, Certified, LARGEST, Unusable};

/// Reads and checks the pair of files of a certificate.
pub(super) fn pair(cert: &Path, key: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Certified> {
    let (cert_path, key_path) = (path.key("cert"), path.key("key"));
    let (chain, secret) = (read(cert, &cert_path, cx), read(key, &key_path, cx));
    let (chain, secret) = (chain?, secret?);
    let certified = match pem::certified(&chain, &secret) {
        Ok(certified) => certified,
        Err(Unusable::Chain(error)) => {
            let hint = "write a file in PEM with the server's own certificate first";
            cx.file_error(&cert_path, cert, &format!("cannot be used: {error}"), hint);
            return None;
        }
        Err(Unusable::Key(error)) => {
            let hint = "write the file in PEM that belongs to `cert`, not encrypted";
            cx.file_error(&key_path, key, &format!("cannot be used: {error}"), hint);
            return None;
        }
    };
    lint::certificate_validity(certified.not_before, certified.not_after, &cert_path, cx);
    Some(certified)
}

/// Reads and checks a file of authorities; reports what is wrong with it.
pub(super) fn authorities(file: &Path, path: &ConfigPath, cx: &mut Context<'_>) {
    let Some(text) = read(file, path, cx) else { return };
    let checked = pem::certificates(&text).and_then(|authorities| crate::tls::clients::check(&authorities));
    if let Err(error) = checked {
        let hint = "write a file in PEM with the certificates of the authorities";
        cx.file_error(path, file, &format!("cannot be used: {error}"), hint);
    }
}

fn read(file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Vec<u8>> {
    let read = cx.environment().read(file, LARGEST);
    read.map_err(|error| cx.file_error(path, file, &format!("cannot be read: {error}"), "")).ok()
}
