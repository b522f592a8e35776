//! What systemd is told of the service's life, and the socket that it may hand over.
#![cfg(unix)]

mod support;

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
    time::Duration,
};

use rasid::proto::v1;
use support::{process::Process, text};

/// The end of `NOTIFY_SOCKET` that systemd holds.
struct Manager(UnixDatagram, tempfile::TempDir);

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(socket, folder)
    }

    fn watch(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.1.path().join("notify"));
    }

    /// The next message that holds a line.
    fn wait_for(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("{line} never came: {error}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn systemd_hears_of_start_and_stop() {
    let manager = Manager::new();
    let mut server = Process::start_cold(&[], |command| manager.watch(command));
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=serving"), "{ready}");
    assert!(server.client().await.tag(v1::TagRequest { document: Some(text("Rain.")), options: None }).await.is_ok());
    server.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn the_watchdog_is_fed_only_where_there_is_one() {
    let manager = Manager::new();
    let _server = Process::start_cold(&[], |command| {
        manager.watch(command);
        command.env("WATCHDOG_USEC", "200000");
    });
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");

    let without = Manager::new();
    let server = Process::start_with(&[], |command| without.watch(command)).await;
    without.wait_for("READY=1");
    server.signal("TERM");
    let mut buffer = [0; 4096];
    let length = without.0.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"STOPPING=1"));
}

/// As systemd starts a unit with a socket: it is open as file 3, and the variables name this very process.
fn activated(listener: TcpListener) -> impl FnOnce(&mut Command) {
    move |command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::from(OwnedFd::from(listener)));
        *command = shell;
    }
}

#[tokio::test]
async fn a_socket_that_systemd_has_opened_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A caller that comes before the server does waits and is answered.
    let early = tokio::spawn(async move {
        let mut client =
            rasid::proto::v1::tagger_service_client::TaggerServiceClient::connect(format!("http://{address}"))
                .await
                .unwrap();
        client.get_model_info(v1::GetModelInfoRequest {}).await.map(drop)
    });
    let mut server = Process::start_with(&[], activated(listener)).await;
    let answer = early.await.unwrap();
    assert!(answer.as_ref().err().is_none_or(|status| status.code() == tonic::Code::Unavailable), "{answer:?}");
    // The address of the settings is not used then.
    assert!(TcpListener::bind(server.address).is_ok());
    server.signal("TERM");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn a_socket_that_is_none_is_an_error_that_says_so() {
    let mut server = Process::start_cold(&[], |command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3</dev/null 2>\"$LOG\""]);
        shell.arg(command.get_program()).args(command.get_args());
        *command = shell;
        command.env("LOG", "/dev/null");
    });
    assert_eq!(server.ended().await.code(), Some(1));
}
