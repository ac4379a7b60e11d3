//! The thread that ends bans, and writes them down.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::state::{State, unix_time};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);

/// How often the addresses of this machine are looked for, in ticks.
const AROUND: u32 = 60;

/// A disk is written to for one part of the time in this many.
const SHARE: u32 = 10;

/// Starts it. It ends with the gateway, or when another process has taken over: the file is that one's then.
///
/// # Errors
/// The system gives no thread.
pub fn start(state: &Arc<State>) -> io::Result<()> {
    let state = Arc::downgrade(state);
    std::thread::Builder::new().name("bans".to_owned()).spawn(move || {
        let (mut failed, mut ticks, mut rest) = (false, 0_u32, Instant::now());
        loop {
            std::thread::sleep(TICK);
            let Some(state) = state.upgrade().filter(|state| !state.is_handed_over()) else { break };
            state.bans.expire(unix_time());
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(AROUND) && state.bans.look_around() {
                let active = state.active();
                active.bans.release(&active.plan);
            }
            // Not before it is sure that no other process is in charge.
            if !state.is_open() || Instant::now() < rest {
                continue;
            }
            let began = Instant::now();
            match state.bans.write() {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(%error, "bans can not be written: they will not survive this process");
                }
                Err(_) => {}
            }
            rest = Instant::now() + began.elapsed() * SHARE;
        }
    })?;
    Ok(())
}
