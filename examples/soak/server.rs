//! The server under test, in a process of its own, and all that it reads from disk: certificates, keys, the model.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rasid::proto::{
    admin::v1::admin_service_client::AdminServiceClient,
    v1::{self, tagger_service_client::TaggerServiceClient},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{Failure, books::Figures};

/// Tokens that may wait in the server: what bounds its memory and the wait of an admitted call.
pub const QUEUE_TOKENS: usize = 16_384;

/// What must be zero when nobody calls.
pub const BUSY: [&str; 3] = ["rasid_queue_tokens", "rasid_held_bytes", "rasid_requests_in_flight"];

/// Name in the server's certificate.
const NAME: &str = "rasid.test";

/// Keys by name; they stay the same when the file is written anew, but for `old`, which has expired.
const KEYS: [&str; 3] = ["alpha", "beta", "gamma"];

/// A model that may be put before the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// As it is.
    First,
    /// The same weights under another version.
    Second,
    /// One bit wrong.
    Damaged,
}

impl Model {
    fn folder(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Damaged => "damaged",
        }
    }
}

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
    metrics: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
    authority: (String, KeyPair, CertificateParams),
    channels: RwLock<Vec<Channel>>,
    model: PathBuf,
}

/// The key of a name, the same in every run.
pub fn key(name: &str) -> String {
    format!("rsk_{}", hex(&Sha256::digest(format!("soak {name}"))))
}

fn hex(bytes: &[u8]) -> String {
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
    pub async fn start(program: Option<PathBuf>, model: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = (params.self_signed(&authority_key)?.pem(), authority_key, params);
        let beside = std::env::current_exe()?.ancestors().nth(2).ok_or("no folder")?.join("rasid");
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
            model,
        };
        server.write_certificate()?;
        server.write_keys()?;
        let program = program.unwrap_or(beside);
        server.write_models(&program)?;
        let process = server.command(&program).spawn()?;
        server.pid = process.id();
        server.process = Mutex::new(process);
        server.wait_until_serving().await?;
        server.connect_anew().await?;
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
        let log = fs::File::create(self.folder.path().join("log")).map_or_else(|_| Stdio::null(), Stdio::from);
        command.stderr(log);
        command
    }

    /// A new certificate by the same authority, in the place of the old one.
    pub fn write_certificate(&self) -> Result<(), Failure> {
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&self.authority.2, &self.authority.1);
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;
        self.replace("server.key", &key.serialize_pem())?;
        self.replace("server.pem", &certificate.pem())
    }

    /// The keys, hashed, in another order each time, one expired.
    pub fn write_keys(&self) -> Result<(), Failure> {
        let entry = |name: &str, more: &str| {
            let hash = hex(&Sha256::digest(key(name)));
            format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{more}\n")
        };
        let mut entries: Vec<String> = KEYS.iter().map(|name| entry(name, "")).collect();
        entries.push(entry("old", "expires = 2020-01-01T00:00:00Z"));
        fastrand::shuffle(&mut entries);
        self.replace("keys.toml", &entries.concat())?;
        self.replace("admin.toml", &entry("admin", ""))
    }

    /// Puts a file in another's place at once.
    pub fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.folder.path().join(name))?)
    }

    /// Copies of the model: one of another revision, one that is damaged.
    fn write_models(&self, program: &Path) -> Result<(), Failure> {
        for name in [Model::Second, Model::Damaged].map(Model::folder) {
            let folder = self.folder.path().join(name);
            fs::create_dir(&folder)?;
            for entry in fs::read_dir(&self.model)? {
                let path = entry?.path();
                if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                    fs::copy(&path, folder.join(name))?;
                }
            }
        }
        for model in [Model::Second, Model::Damaged] {
            self.rename_model(program, model.folder())?;
        }
        let weights = self.folder.path().join(Model::Damaged.folder()).join("encoder.safetensors");
        let mut bytes = fs::read(&weights)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(weights, bytes)?)
    }

    /// Gives a copy a revision of its own, since a model that is loaded already is not loaded again.
    fn rename_model(&self, program: &Path, name: &str) -> Result<(), Failure> {
        let folder = self.folder.path().join(name);
        let path = folder.join("manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        manifest["version"] = format!("{}-{name}", manifest["version"].as_str().unwrap_or_default()).into();
        fs::write(&path, manifest.to_string())?;
        let sealed = Command::new(program).args(["model", "seal"]).arg(&folder).output()?;
        if sealed.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&sealed.stderr).into()) }
    }

    /// Puts a model where the server looks, at once.
    pub fn place_model(&self, model: Model) -> Result<(), Failure> {
        let new = self.folder.path().join("model.new");
        let target = match model {
            Model::First => self.model.clone(),
            other => self.folder.path().join(other.folder()),
        };
        std::os::unix::fs::symlink(target, &new)?;
        Ok(fs::rename(new, self.folder.path().join("model"))?)
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

    /// A client over one of the shared connections, by one of the keys.
    pub fn shared_client(&self) -> Result<Client, Status> {
        let channel = fastrand::choice(self.channels.read().iter().cloned().collect::<Vec<_>>());
        let channel = channel.ok_or_else(|| Status::unavailable("no connection"))?;
        Ok(with_key(channel, &key(fastrand::choice(KEYS).unwrap_or_default())))
    }

    /// A client over a connection of its own.
    pub async fn own_client(&self) -> Result<Client, Status> {
        Ok(with_key(self.connect().await?, &key(fastrand::choice(KEYS).unwrap_or_default())))
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
            let busy: f64 = BUSY.into_iter().map(|name| super::books::sum(&figures, name, "")).sum();
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
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
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
