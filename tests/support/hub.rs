//! A stand-in for the Hugging Face hub: serves a folder as `acme/news`, revision `v1`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

/// The only commit.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The token that the server asks for.
pub const TOKEN: &str = "hf_secret";

/// A running server; its thread ends with the process.
pub struct Hub {
    /// What `HF_ENDPOINT` is to be.
    pub endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    pub fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (folder.to_owned(), Arc::clone(&requests));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (folder, log) = (folder.clone(), Arc::clone(&log));
                thread::spawn(move || answer(connection.unwrap(), &folder, &log));
            }
        });
        Self { endpoint, requests }
    }

    /// Paths asked for since the last time.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Answers one request and closes.
fn answer(mut connection: TcpStream, folder: &Path, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let values = headers.iter().filter_map(|line| line.split_once(": "));
        values.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let path = request.split(' ').nth(1).unwrap().to_owned();
    log.lock().unwrap().push(path.clone());
    let response = if header("authorization") == Some(format!("Bearer {TOKEN}")) {
        match file(folder, &path).map(fs::read) {
            Some(Ok(content)) => content_response(&content, header("range").as_deref()),
            _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        }
    } else {
        b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
    };
    // A client may stop reading early.
    let _ = connection.write_all(&response);
}

/// The file behind `/acme/news/resolve/REVISION/FILE`.
fn file(folder: &Path, path: &str) -> Option<PathBuf> {
    let (revision, file) = path.strip_prefix("/acme/news/resolve/")?.split_once('/')?;
    [COMMIT, "v1"].contains(&revision).then(|| folder.join(file))
}

fn content_response(content: &[u8], range: Option<&str>) -> Vec<u8> {
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let start = range.and_then(|(start, _)| start.parse().ok()).unwrap_or(0);
    let end =
        range.and_then(|(_, end)| end.parse().ok()).map_or(content.len(), |last: usize| content.len().min(last + 1));
    let (status, part) = (if range.is_some() { "206 Partial Content" } else { "200 OK" }, &content[start..end]);
    let mut response = format!(
        "HTTP/1.1 {status}\r\nx-repo-commit: {COMMIT}\r\netag: \"{:x}\"\r\ncontent-range: bytes {start}-{}/{}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        content.iter().fold(content.len(), |hash, &byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte))),
        end.saturating_sub(1),
        content.len(),
        part.len(),
    )
    .into_bytes();
    response.extend(part);
    response
}
