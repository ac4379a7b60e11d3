//! The command line.

mod ask;
mod ban;
mod check;
mod demo;
mod dev;
mod explain;
mod healthcheck;
mod reload;
mod run;
mod slots;
mod status;
mod switch;
mod top;
mod versions;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config;

/// Exit code for a command line or configuration that can not be used (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// A gateway in front of your app: guards its probes, knows its clients, limits their rates, and says why.
#[derive(Debug, Parser)]
#[command(name = "probegate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stand in front of the app at ADDRESS, with the default configuration.
    Proxy {
        /// Where the app listens: `127.0.0.1:8000`, `unix:/run/app.sock` or `name:port`.
        address: String,
        /// Where to listen.
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
        /// Where metrics and the gateway's own probes are served.
        #[arg(long, default_value = "127.0.0.1:9900")]
        admin: SocketAddr,
    },
    /// The same with a small app built in, and the commands to try.
    Demo {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where metrics and the gateway's own probes are served.
        #[arg(long, default_value = "127.0.0.1:9900")]
        admin: SocketAddr,
    },
    /// HTTPS on this machine before the app at UPSTREAM, with a local authority made for it.
    Dev(dev::Arguments),
    /// Print the commented default configuration.
    Init,
    /// Check a configuration and report all its problems.
    Check {
        /// The file.
        file: PathBuf,
        /// Fail on lints as well.
        #[arg(long)]
        strict: bool,
    },
    /// Run with a configuration file.
    Run {
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Take the listening sockets over from a running probegate (which then gets SIGQUIT).
        #[arg(long, requires = "upgrade_socket")]
        upgrade: bool,
        /// The Unix socket for handing listening sockets over. Its folder must be yours alone.
        #[arg(long, value_name = "PATH")]
        upgrade_socket: Option<PathBuf>,
    },
    /// Say what would become of a request, and why.
    Explain(explain::Arguments),
    /// Ask a running gateway whether it is ready; exit 0 if it is. For Docker's HEALTHCHECK.
    Healthcheck {
        /// Its admin listener, or `unix:PATH` for its admin socket.
        #[arg(long, default_value = "127.0.0.1:9900")]
        address: ask::Place,
        /// Ask whether it is alive instead: also a gateway that goes down, or whose services are gone, is. For Kubernetes' liveness probe.
        #[arg(long)]
        live: bool,
    },
    /// Say how a running gateway and its services are.
    Status(status::Arguments),
    /// Say which versions the servers of a running gateway run, side by side; exit 0 if each service runs one.
    Versions(versions::Arguments),
    /// Have a running gateway load its configuration again, and say what came of it.
    Reload(reload::Arguments),
    /// Put a service of a running gateway into maintenance, or take it out.
    Maintenance(switch::Maintenance),
    /// Let a server of a running gateway get no new requests.
    Drain(switch::Drain),
    /// Let a drained server get requests again.
    Undrain(switch::Undrain),
    /// Move the requests of a service from one slot to another, on evidence.
    Switch(slots::Switch),
    /// Who is kept out of a running gateway: list, add, lift, why.
    #[command(subcommand)]
    Ban(ban::Ban),
    /// What happens in a running gateway: which limits are met, and by whom.
    #[command(subcommand)]
    Top(top::Top),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command and says how it went.
pub fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // Where there is nobody to tell, the exit code still says it.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match command {
        Command::Proxy { address, listen, admin } => run::proxy(&address, listen, admin),
        Command::Demo { listen, admin } => demo::run(listen, admin),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Init => print(config::DEFAULT.as_bytes()),
        Command::Check { file, strict } => check::run(&file, strict),
        Command::Run { config, upgrade, upgrade_socket } => run::run(config, upgrade, upgrade_socket),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Healthcheck { address, live } => healthcheck::run(&address, live),
        Command::Status(arguments) => status::run(&arguments),
        Command::Versions(arguments) => versions::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Maintenance(arguments) => switch::maintenance(&arguments),
        Command::Drain(arguments) => switch::drain(&arguments),
        Command::Undrain(arguments) => switch::undrain(&arguments),
        Command::Switch(arguments) => slots::run(&arguments),
        Command::Ban(command) => ban::run(&command),
        Command::Top(command) => top::run(&command),
        Command::Schema => print(format!("{:#}\n", config::schema()).as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "probegate", &mut script);
            print(&script)
        }
    }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says something to the person at the terminal.
fn say(text: &str) {
    // Without a terminal there is nobody to tell.
    writeln!(io::stderr(), "{text}").ok();
}

/// Whether the person at the terminal gets colours (<https://no-color.org>).
fn colour() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}
