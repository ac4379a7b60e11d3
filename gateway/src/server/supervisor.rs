//! What a supervisor is told (`sd_notify(3)`), where one listens at `$NOTIFY_SOCKET`.

use sd_notify::NotifyState;

/// Everything is bound and running. `took_over`: this process is the main one from now on, and was not started as such.
pub(super) fn ready(took_over: bool) {
    if took_over {
        tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    } else {
        tell(&[NotifyState::Ready]);
    }
}

/// The configuration is being loaded again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// This process is going down, and no other one takes its place.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the supervisor was not told");
    }
}
