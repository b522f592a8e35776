//! What was sent, what came back, and whether the server counts the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::Code;

use super::{load::Kind, server::Server};

/// Figures of the server by name and labels.
pub type Figures = HashMap<String, f64>;

/// The sum of a metric over all its labels that hold `part`.
pub fn sum(figures: &Figures, name: &str, part: &str) -> f64 {
    let of = |key: &str| key.split('{').next() == Some(name) && key.contains(part);
    figures.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
}

/// The clients' side.
#[derive(Debug, Default)]
pub struct Books {
    latencies: Mutex<BTreeMap<Kind, Vec<f64>>>,
    codes: Mutex<BTreeMap<(Kind, String), u64>>,
    /// Documents offered.
    pub offered: AtomicU64,
    /// Documents that came back with an analysis.
    pub answered: AtomicU64,
    /// Documents that came back with an error of their own.
    pub failed: AtomicU64,
    /// Refusals that came with RetryInfo.
    pub advised: AtomicU64,
    /// Refusals without.
    pub unadvised: AtomicU64,
    /// Calls that waited as they were told and then were answered.
    pub honoured: AtomicU64,
    /// What must never happen: another's answer, a second answer, an order mixed up.
    pub wrong: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Books {
    /// An id that no other document of this run has.
    pub fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A call was answered.
    pub fn took(&self, kind: Kind, seconds: f64) {
        self.latencies.lock().entry(kind).or_default().push(seconds);
        self.code(kind, Code::Ok);
    }

    /// A call ended.
    pub fn code(&self, kind: Kind, code: Code) {
        *self.codes.lock().entry((kind, format!("{code:?}"))).or_default() += 1;
    }

    /// Something that must never happen.
    pub fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    /// Seconds that so many percent of the answered calls took at most.
    pub fn percentile(&self, kind: Kind, percent: usize) -> f64 {
        let latencies = self.latencies.lock();
        let Some(all) = latencies.get(&kind) else { return 0.0 };
        let mut all = all.clone();
        all.sort_by(f64::total_cmp);
        all[(all.len() * percent).div_ceil(100).max(1) - 1]
    }

    /// Latency of the answered calls.
    pub fn latency(&self, kind: Kind) -> Value {
        let count = self.latencies.lock().get(&kind).map_or(0, Vec::len);
        let at = |percent| (self.percentile(kind, percent) * 1e4).round() / 1e4;
        json!({"answered": count, "p50_seconds": at(50), "p99_seconds": at(99), "max_seconds": at(100)})
    }

    /// All of it.
    pub fn report(&self) -> Value {
        let codes: BTreeMap<String, u64> =
            self.codes.lock().iter().map(|((kind, code), count)| (format!("{kind:?} {code}"), *count)).collect();
        let kinds: Vec<Kind> = self.latencies.lock().keys().copied().collect();
        let latencies: BTreeMap<String, Value> =
            kinds.into_iter().map(|kind| (format!("{kind:?}"), self.latency(kind))).collect();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "documents_offered": count(&self.offered),
            "documents_answered": count(&self.answered),
            "documents_failed": count(&self.failed),
            "calls": codes,
            "latency": latencies,
            "refusals_with_retry_info": count(&self.advised),
            "refusals_without": count(&self.unadvised),
            "retry_info_honoured_and_answered": count(&self.honoured),
        })
    }

    /// What did not hold.
    pub fn check(&self, before: &Figures, after: &Figures) -> Vec<String> {
        let mut broken = self.wrong.lock().clone();
        let grown = |part: &str| sum(after, "rasid_documents_total", part) - sum(before, "rasid_documents_total", part);
        let client = self.answered.load(Ordering::Relaxed) as f64;
        // What a client gave up on may have been answered on the server's side, never the other way round.
        if grown("outcome=\"answered\"") < client {
            broken.push(format!(
                "the server answered {} documents, clients have {client}",
                grown("outcome=\"answered\"")
            ));
        }
        let entered =
            sum(after, "rasid_documents_received_total", "") - sum(before, "rasid_documents_received_total", "");
        if entered != grown("") {
            broken.push(format!("{entered} documents entered, {} left", grown("")));
        }
        for gauge in super::server::BUSY {
            let value = sum(after, gauge, "");
            if value != 0.0 {
                broken.push(format!("{gauge} is {value} when all is done"));
            }
        }
        if grown("outcome=\"defect\"") > 0.0 {
            broken.push(format!("{} documents met a defect", grown("outcome=\"defect\"")));
        }
        if self.unadvised.load(Ordering::Relaxed) > 0 {
            broken.push(format!("{} refusals without RetryInfo", self.unadvised.load(Ordering::Relaxed)));
        }
        if self.honoured.load(Ordering::Relaxed) == 0 && self.advised.load(Ordering::Relaxed) > 100 {
            broken.push("nobody who waited as told was answered".to_owned());
        }
        broken
    }
}

/// What the server counted meanwhile.
pub fn server_report(before: &Figures, after: &Figures) -> Value {
    let mut grown: BTreeMap<&str, f64> = BTreeMap::new();
    for (key, value) in after {
        let counted = key.split('{').next().is_some_and(|name| name.ends_with("_total")) && key.starts_with("rasid_");
        let difference = value - before.get(key).copied().unwrap_or_default();
        if counted && difference > 0.0 {
            grown.insert(key, difference);
        }
    }
    json!(grown)
}

/// The process, looked at every few seconds.
#[derive(Debug, Default)]
pub struct Samples {
    resident: Vec<f64>,
    descriptors: Vec<f64>,
    threads: Vec<f64>,
}

/// A watch that goes on until stopped.
pub struct Watch {
    stopped: Arc<AtomicBool>,
    task: JoinHandle<Samples>,
}

impl Samples {
    /// Starts to look.
    pub fn watch(server: Arc<Server>) -> Watch {
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let task = tokio::spawn(async move {
            let mut samples = Self::default();
            while !flag.load(Ordering::Relaxed) {
                if let Some((resident, descriptors, threads)) = server.process_figures() {
                    samples.resident.push(resident);
                    samples.descriptors.push(descriptors);
                    samples.threads.push(threads);
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            samples
        });
        Watch { stopped, task }
    }

    /// Highest values of the second and the last quarter: the first is warming up.
    fn quarters(values: &[f64]) -> (f64, f64) {
        let quarter = values.len() / 4;
        let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        (highest(&values[quarter..(2 * quarter).max(quarter)]), highest(&values[values.len() - quarter..]))
    }

    /// What grew.
    pub fn check(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let (early, late) = Self::quarters(&self.resident);
        if late > early * 1.15 + 32e6 {
            broken.push(format!("memory grew from {:.0} MB to {:.0} MB", early / 1e6, late / 1e6));
        }
        let (early, late) = Self::quarters(&self.descriptors);
        if late > early * 1.5 + 64.0 {
            broken.push(format!("open files grew from {early} to {late}"));
        }
        let (early, late) = Self::quarters(&self.threads);
        if late > early + 16.0 {
            broken.push(format!("threads grew from {early} to {late}"));
        }
        broken
    }

    /// The figures.
    pub fn report(&self) -> Value {
        let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let megabytes = |bytes: f64| (bytes / 1e6).round();
        let (early, late) = Self::quarters(&self.resident);
        let (early_files, late_files) = Self::quarters(&self.descriptors);
        json!({
            "samples": self.resident.len(),
            "peak_megabytes": megabytes(highest(&self.resident)),
            "megabytes_second_quarter": megabytes(early),
            "megabytes_last_quarter": megabytes(late),
            "peak_open_files": highest(&self.descriptors),
            "open_files_second_quarter": early_files,
            "open_files_last_quarter": late_files,
            "peak_threads": highest(&self.threads),
        })
    }
}

impl Watch {
    /// Stops, and hands over what was seen.
    pub async fn stop(self) -> Samples {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}
