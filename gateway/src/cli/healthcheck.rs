//! `healthcheck`: asks the admin listener for `/readyz`, without curl in the image.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::say;

const PATIENCE: Duration = Duration::from_secs(3);

/// Exit 0 if the gateway is ready.
pub(super) fn run(address: SocketAddr) -> ExitCode {
    match ask(address) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(answer) => {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            say(&format!("not ready: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("no answer from {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}
