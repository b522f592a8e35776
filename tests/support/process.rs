//! `rasid serve` in a process of its own, for what a process has one of: a log, a recorder of metrics, signals.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rasid::proto::v1::tagger_service_client::TaggerServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

/// A server process, killed when dropped.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it offers metrics.
    pub metrics: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Process {
    /// Starts a server and waits until its model answers.
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, |_| {}).await
    }

    /// As [`Process::start`], of a command that is changed first.
    pub async fn start_with(flags: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut process = Self::start_cold(flags, change);
        process.wait_until_serving().await;
        process
    }

    /// Starts a server and does not wait for it.
    pub fn start_cold(flags: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let (address, metrics) = (free_address(), free_address());
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasid"));
        command.args(["serve", "--listen", &address.to_string(), "--metrics-listen", &metrics.to_string()]);
        if !flags.contains(&"--model") {
            command.arg("--model").arg(super::model_folder());
        }
        command.args(flags);
        change(&mut command);
        command.stderr(fs::File::create(folder.path().join("log")).unwrap()).stdout(Stdio::null());
        Self { address, metrics, child: command.spawn().unwrap(), folder }
    }

    /// Waits until metrics name the model.
    pub async fn wait_until_serving(&mut self) {
        for _ in 0..600 {
            if self.figures().is_some_and(|figures| figures.keys().any(|name| name.starts_with("rasid_model_info"))) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended before it served: {status}\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server never served:\n{}", self.log());
    }

    /// A connection to it.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A client over a connection of its own.
    pub async fn client(&self) -> TaggerServiceClient<Channel> {
        TaggerServiceClient::new(self.channel().await)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A file that is gone with the process.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..1200 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server never ended:\n{}", self.log());
    }

    /// What `GET /metrics` answers.
    pub fn page(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    }

    /// Every figure by its name and labels.
    pub fn figures(&self) -> Option<HashMap<String, f64>> {
        let page = self.page()?;
        let lines = page.lines().filter(|line| line.starts_with("rasid_") || line.starts_with("process_"));
        Some(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The figures when `name` has reached `value`.
    pub async fn wait_for(&self, name: &str, value: f64) -> HashMap<String, f64> {
        let mut figures = HashMap::new();
        for _ in 0..2400 {
            figures = self.figures().unwrap();
            if figures.get(name) == Some(&value) {
                return figures;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{name} never became {value}: {figures:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
