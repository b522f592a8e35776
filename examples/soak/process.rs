//! The server's process: memory, files and threads while it is under load, its log at the end.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use super::{Failure, server::Server};

/// The process, looked at every two seconds.
#[derive(Debug, Default)]
pub struct Samples {
    resident: Vec<f64>,
    descriptors: Vec<f64>,
    threads: Vec<f64>,
}

impl Samples {
    /// Looks for so long: while the load is the same.
    pub fn watch(server: Arc<Server>, span: Duration) -> JoinHandle<Self> {
        let until = Instant::now() + span;
        tokio::spawn(async move {
            let mut samples = Self::default();
            while Instant::now() < until {
                if let Some((resident, descriptors, threads)) = server.process_figures() {
                    samples.resident.push(resident);
                    samples.descriptors.push(descriptors);
                    samples.threads.push(threads);
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            samples
        })
    }

    /// What grew: medians, since a reload rightly holds a second model for a moment.
    pub fn check(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let (early, late) = quarters(&self.resident);
        if late > early * 1.08 + 16e6 {
            broken.push(format!("memory grew from {:.0} MB to {:.0} MB", early / 1e6, late / 1e6));
        }
        let (early, late) = quarters(&self.descriptors);
        if late > early * 1.08 + 16.0 {
            broken.push(format!("open files grew from {early} to {late}"));
        }
        let (early, late) = quarters(&self.threads);
        if late > early + 8.0 {
            broken.push(format!("threads grew from {early} to {late}"));
        }
        broken
    }

    /// The figures.
    pub fn report(&self) -> Value {
        let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let megabytes = |bytes: f64| (bytes / 1e6).round();
        let (early, late) = quarters(&self.resident);
        let (early_files, late_files) = quarters(&self.descriptors);
        json!({
            "samples": self.resident.len(),
            "peak_megabytes": megabytes(highest(&self.resident)),
            "median_megabytes_second_quarter": megabytes(early),
            "median_megabytes_last_quarter": megabytes(late),
            "peak_open_files": highest(&self.descriptors),
            "median_open_files_second_quarter": early_files,
            "median_open_files_last_quarter": late_files,
            "peak_threads": highest(&self.threads),
        })
    }
}

/// Medians of the second and the last quarter: the first is warming up.
fn quarters(values: &[f64]) -> (f64, f64) {
    let quarter = values.len() / 4;
    (median(&values[quarter..2 * quarter]), median(&values[values.len() - quarter..]))
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Open files of an idle server, once their number has not changed for longer than a handshake may take.
pub async fn idle_files(server: &Server) -> Result<f64, Failure> {
    let (mut files, mut unchanged) = (0.0, 0);
    for _ in 0..120 {
        let (_, now, _) = server.process_figures().ok_or("the server has gone")?;
        unchanged = if now == files { unchanged + 1 } else { 0 };
        files = now;
        if unchanged > 12 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(files)
}

/// What it is to log when certificates, keys or models cannot be used.
const EXPECTED: [&str; 3] =
    ["the certificates stay as they were", "keys stay as they were", "the model cannot be loaded"];

/// What is never to be in a log.
const FATAL: [&str; 4] = ["panicked", "overflowed its stack", "memory allocation of", "fatal runtime error"];

/// Most lines to show.
const MOST_LINES: usize = 10;

/// Lines of the log that tell of a defect.
pub fn defects(log: &str) -> Vec<String> {
    let is_error = |line: &str| line.split_whitespace().nth(1) == Some("ERROR");
    let is_fatal = |line: &str| FATAL.iter().any(|part| line.contains(part));
    let is_expected = |line: &str| EXPECTED.iter().any(|part| line.contains(part));
    let defects = log.lines().filter(|line| is_fatal(line) || (is_error(line) && !is_expected(line)));
    let mut found: Vec<String> = defects.map(|line| format!("the server logged: {line}")).collect();
    if found.len() > MOST_LINES {
        let more = found.len() - MOST_LINES;
        found.truncate(MOST_LINES);
        found.push(format!("the server logged {more} more such lines"));
    }
    found
}
