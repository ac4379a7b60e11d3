//! Real Redis servers, and a client that sends them commands.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::{Folder, PATIENCE, eventually, free_address};

/// A server that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    /// Its files.
    folder: Folder,
    address: SocketAddr,
    arguments: Vec<OsString>,
    child: Option<Child>,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Nothing,
    Error(String),
    List(Vec<Self>),
}

impl Redis {
    /// A server without a password that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// One with more arguments, such as `--requirepass x`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::on(free_address(), Folder::new(), arguments)
    }

    /// One at this address, with files of its own in a folder.
    pub(crate) fn on(address: SocketAddr, folder: Folder, more: &[&str]) -> Self {
        let ip = address.ip().to_string();
        let port = if more.contains(&"--tls-port") { "0".to_owned() } else { address.port().to_string() };
        let mut arguments =
            ["--save", "", "--appendonly", "no", "--bind", &ip, "--port", &port].map(OsString::from).to_vec();
        arguments.push("--dir".into());
        arguments.push(folder.path().into());
        arguments.extend(more.iter().map(OsString::from));
        Self { folder, address, arguments, child: None }.started()
    }

    /// A sentinel that watches this master under the name `mymaster`, and decides alone.
    pub(crate) fn sentinel(master: &Self) -> Self {
        let (address, folder) = (free_address(), Folder::new());
        let watched = master.address;
        let text = format!(
            "bind {}\nport {}\ndir {}\nsentinel monitor mymaster {} {} 1\nsentinel down-after-milliseconds mymaster 3000\n\
             sentinel failover-timeout mymaster 2000\n",
            address.ip(),
            address.port(),
            folder.path().display(),
            watched.ip(),
            watched.port(),
        );
        let arguments = vec![folder.write("sentinel.conf", text).into(), "--sentinel".into()];
        Self { folder, address, arguments, child: None }.started()
    }

    /// Servers that are a cluster, each a master.
    pub(crate) fn cluster(count: usize) -> Vec<Self> {
        let nodes: Vec<Self> = (0..count)
            .map(|_| {
                let address = free_address();
                // Held until both are known, so that they differ.
                let bus = TcpListener::bind((address.ip(), 0)).unwrap().local_addr().unwrap().port().to_string();
                let ip = address.ip().to_string();
                // Else they take each other for where their connections come from.
                let known = ["--cluster-announce-ip", &ip, "--bind-source-addr", &ip];
                let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus];
                Self::on(address, Folder::new(), &[cluster, known].concat())
            })
            .collect();
        // It waits for ever for servers that do not find each other.
        let mut create = Command::new("timeout");
        create
            .args(["30", "redis-cli", "--cluster", "create"])
            .args(nodes.iter().map(|node| node.address.to_string()))
            .arg("--cluster-yes");
        let made = create.stdin(Stdio::null()).output().expect("redis-cli, from the package redis-tools");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for node in &nodes {
            eventually("the cluster is whole", || {
                let Reply::Text(info) = node.run(&["CLUSTER", "INFO"]) else { return None };
                info.contains("cluster_state:ok").then_some(())
            });
        }
        nodes
    }

    fn started(mut self) -> Self {
        self.start_again();
        self
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts it, after it was killed, with nothing of what it knew.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(&self.arguments).current_dir(self.folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server, from the package of this name"));
        eventually("the server listens", || TcpStream::connect(self.address).ok());
    }

    /// Kills it as nobody should.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap().success());
    }

    /// Runs a command on a connection of its own.
    pub(crate) fn run(&self, words: &[&str]) -> Reply {
        Resp::connect(self.address).run(words)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Runs a command.
    pub(crate) fn run(&mut self, words: &[&str]) -> Reply {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(out.as_bytes()).unwrap();
        self.read()
    }

    fn read(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Nothing,
            "$" => {
                let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut text).unwrap();
                text.truncate(text.len() - 2);
                Reply::Text(String::from_utf8_lossy(&text).into_owned())
            }
            "*" => Reply::List((0..rest.parse::<i64>().unwrap()).map(|_| self.read()).collect()),
            _ => panic!("not an answer: {line:?}"),
        }
    }
}

impl Reply {
    /// The numbers of a list.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        let Self::List(list) = self else { panic!("no list: {self:?}") };
        list.iter().map(|reply| if let Self::Number(number) = reply { *number } else { panic!("{self:?}") }).collect()
    }

    /// The first of a list.
    pub(crate) fn first(&self) -> Option<Self> {
        if let Self::List(list) = self { list.first().cloned() } else { None }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self) -> Vec<String> {
        let Self::List(list) = self else { panic!("no list: {self:?}") };
        list.iter().map(|reply| if let Self::Text(text) = reply { text.clone() } else { panic!("{self:?}") }).collect()
    }
}
