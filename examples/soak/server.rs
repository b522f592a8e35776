//! The server under test, in a process of its own, and the ways to reach it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use parking_lot::{Mutex, RwLock};
use rasid::proto::{
    admin::v1::admin_service_client::AdminServiceClient,
    v1::{self, tagger_service_client::TaggerServiceClient},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{Failure, balance::Figures};

/// Tokens that may wait in the server: what bounds its memory and the wait of an admitted call.
pub const QUEUE_TOKENS: usize = 16_384;

/// What must be zero when nobody calls.
pub const BUSY: [&str; 3] = ["rasid_queue_tokens", "rasid_held_bytes", "rasid_requests_in_flight"];

/// Name in the server's certificate.
pub const NAME: &str = "rasid.test";

/// Keys by name; they stay the same when the file is written anew, but for `old`, which has expired.
pub const KEYS: [&str; 3] = ["alpha", "beta", "gamma"];

/// The key of the clients that never give up.
pub const STEADY: &str = "steady";

/// Seconds that the server waits for a client that takes nothing. Its default is longer than a run should wait.
pub const STALL_SECONDS: u64 = 30;

/// Puts a key on every call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A client with a key.
pub type Client = TaggerServiceClient<InterceptedService<Channel, Bearer>>;

/// The server.
pub struct Server {
    process: Mutex<Child>,
    /// Process number.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// The program and when it was built.
    pub program: String,
    /// Where its log is kept.
    log: PathBuf,
    /// What it reads.
    pub folder: TempDir,
    /// Who signs its certificates: as PEM, the key, what is in it.
    pub authority: (String, KeyPair, CertificateParams),
    /// The shipped model.
    pub model: PathBuf,
    metrics: SocketAddr,
    admin: SocketAddr,
    channels: RwLock<Vec<Channel>>,
    steady: RwLock<Option<Channel>>,
}

/// The key of a name, the same in every run.
pub fn key(name: &str) -> String {
    format!("rsk_{}", hex(&Sha256::digest(format!("soak {name}"))))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bearer(key: &str) -> Bearer {
    Bearer(format!("Bearer {key}").parse().expect("a key is ASCII"))
}

fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    /// Starts it and waits until it answers.
    pub async fn start(program: Option<PathBuf>, model: &Path, log: &Path, rng: &mut Rng) -> Result<Self, Failure> {
        let program = find(program)?;
        let built = program_and_time(&program)?;
        eprintln!("program: {built}");
        let folder = tempfile::tempdir()?;
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = (params.self_signed(&authority_key)?.pem(), authority_key, params);
        // A link, so that another model can be put in its place at once.
        let model = model.canonicalize()?;
        std::os::unix::fs::symlink(&model, folder.path().join("model"))?;
        let mut server = Self {
            process: Mutex::new(Command::new("true").spawn()?),
            pid: 0,
            address: free()?,
            metrics: free()?,
            admin: free()?,
            folder,
            authority,
            channels: RwLock::default(),
            steady: RwLock::default(),
            program: built,
            log: log.to_owned(),
            model,
        };
        server.write_certificate()?;
        server.write_keys(rng)?;
        server.write_models(&program)?;
        let process = server.command(&program).stderr(fs::File::create(log)?).spawn()?;
        server.pid = process.id();
        server.process = Mutex::new(process);
        server.wait_until_serving().await?;
        server.connect_anew().await?;
        *server.steady.write() = Some(server.connect().await?);
        Ok(server)
    }

    fn command(&self, program: &Path) -> Command {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(program);
        command.arg("serve").arg("--model").arg(path("model"));
        for (flag, file) in [
            ("--tls-cert", "server.pem"),
            ("--tls-key", "server.key"),
            ("--keys-file", "keys.toml"),
            ("--admin-keys", "admin.toml"),
        ] {
            command.arg(flag).arg(path(file));
        }
        for (flag, address) in
            [("--listen", self.address), ("--metrics-listen", self.metrics), ("--admin-listen", self.admin)]
        {
            command.arg(flag).arg(address.to_string());
        }
        command.args(["--max-queued-tokens", &QUEUE_TOKENS.to_string(), "--reload-seconds", "1", "--log", "warn"]);
        command.args(["--stream-idle-seconds", &STALL_SECONDS.to_string()]);
        command
    }

    fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority.0)).domain_name(NAME);
        Endpoint::from_shared(format!("https://{}", self.address))?
            .connect_timeout(Duration::from_secs(10))
            .tls_config(tls)
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Channel, Status> {
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        self.endpoint().map_err(unavailable)?.connect().await.map_err(unavailable)
    }

    /// New connections in the place of those that calls share.
    pub async fn connect_anew(&self) -> Result<(), Failure> {
        let mut channels = Vec::new();
        for _ in 0..8 {
            channels.push(self.connect().await?);
        }
        *self.channels.write() = channels;
        Ok(())
    }

    /// A connection of its own that takes little at a time.
    pub async fn connect_narrow(&self) -> Result<Channel, Failure> {
        Ok(self.endpoint()?.initial_stream_window_size(4096).connect().await?)
    }

    /// A client over one of the shared connections, by one of the keys.
    pub fn shared_client(&self, rng: &mut Rng) -> Option<Client> {
        let channels = self.channels.read();
        let channel = rng.choice(channels.iter())?.clone();
        Some(with_key(channel, &key(self.any_key(rng))))
    }

    /// The name of a key that may call.
    pub fn any_key(&self, rng: &mut Rng) -> &'static str {
        KEYS[rng.usize(..KEYS.len())]
    }

    /// A client that never gives up, over a connection that stays.
    pub fn steady_client(&self) -> Option<Client> {
        Some(with_key(self.steady.read().clone()?, &key(STEADY)))
    }

    /// A client of a name.
    pub async fn client(&self, name: &str) -> Result<Client, Status> {
        Ok(with_key(self.connect().await?, &key(name)))
    }

    /// A client of the admin port.
    pub async fn admin(&self) -> Result<AdminServiceClient<InterceptedService<Channel, Bearer>>, Failure> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority.0)).domain_name(NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.admin))?.tls_config(tls)?;
        Ok(AdminServiceClient::with_interceptor(endpoint.connect().await?, bearer(&key("admin"))))
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status()?;
        Ok(())
    }

    /// Every figure by its name and labels.
    pub async fn figures(&self) -> Result<Figures, Failure> {
        let mut stream = tokio::net::TcpStream::connect(self.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        let line = |line: &str| {
            let (key, value) = line.rsplit_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        Ok(page.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
    }

    /// Resident bytes, open files, threads.
    pub fn process_figures(&self) -> Option<(f64, f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count();
        Some((field("VmRSS:")? * 1024.0, files as f64, field("Threads:")?))
    }

    async fn wait_until_serving(&self) -> Result<(), Failure> {
        for _ in 0..600 {
            if let Ok(mut client) = self.client("alpha").await
                && client.get_model_info(v1::GetModelInfoRequest {}).await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.process.lock().try_wait()? {
                return Err(format!("the server ended with {status}: {}", self.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("the server never served".into())
    }

    /// Waits until no call is open and nothing is held.
    pub async fn wait_until_idle(&self, most: Duration) -> Result<(), Failure> {
        for _ in 0..most.as_secs() {
            let figures = self.figures().await?;
            let busy: f64 = BUSY.into_iter().map(|name| super::balance::sum(&figures, name, &[])).sum();
            if busy == 0.0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Asks it to end and waits; its exit status.
    pub async fn terminate(&self) -> Result<Option<i32>, Failure> {
        self.signal("TERM")?;
        for _ in 0..600 {
            if let Some(status) = self.process.lock().try_wait()? {
                return Ok(status.code());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The program, unless given the one beside this. An example does not make cargo build it.
fn find(program: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(2)?.join("rasid"));
    let program = program.or_else(beside).ok_or("no folder")?;
    if program.is_file() {
        Ok(program.canonicalize()?)
    } else {
        Err(format!("there is no program {}: cargo build --release makes it", program.display()).into())
    }
}

/// Where it is and when it was built: whether it is the one that is meant.
fn program_and_time(program: &Path) -> Result<String, Failure> {
    let modified = fs::metadata(program)?.modified()?;
    let seconds = modified.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let at = time::OffsetDateTime::from_unix_timestamp(seconds.try_into()?)?;
    let minutes = modified.elapsed().unwrap_or_default().as_secs() / 60;
    Ok(format!("{}, built {at}, {minutes} minutes ago", program.display()))
}

/// A client with a key over a connection.
pub fn with_key(channel: Channel, key: &str) -> Client {
    TaggerServiceClient::with_interceptor(channel, bearer(key)).max_decoding_message_size(64 << 20)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.lock().kill();
    }
}
