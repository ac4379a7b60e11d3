//! Programs from `PyPI`, in virtual environments.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::root;

/// The folder of a virtual environment with what a list of requirements asks for: the one that `gateway/tests/all.sh` has made and named in
/// `variable`, or one of our own, made once for all runs and made anew when the list changes.
pub(crate) fn venv(variable: &str, name: &str, requirements: &str) -> PathBuf {
    if let Some(made) = std::env::var_os(variable) {
        return made.into();
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-venv"));
    let script = "cmp -s \"$2\" \"$1/stamp\" || { rm -rf \"$1\" && python3 -m venv \"$1\" && \
                  \"$1/bin/pip\" install --quiet --disable-pip-version-check -r \"$2\" && cp \"$2\" \"$1/stamp\"; }";
    // Another test run may be making it at this moment.
    let mut command = Command::new("flock");
    command.arg(path.with_extension("lock")).args(["sh", "-c", script, "sh"]).arg(&path);
    // Not the harness's patience: it comes from the network.
    let output = command.arg(root().join(requirements)).output().unwrap();
    assert!(output.status.success(), "no virtual environment: {output:?}");
    path
}
