//! What is deployed fits what is served: dashboard, alerts and manifests speak of figures, settings and sections that there are.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
    time::Duration,
};

use rasid::proto::v1;
use support::{
    poisoned::{POISONED, poisoned_bundle},
    process::Process,
    root, text,
};
use tonic::{Code, Request};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names in a page that are ours or the process's, recorded ones (`rasid:…`) among them.
fn names(page: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let words = page.split(|character| !is_part(character));
    let is_name = |word: &&str| {
        ["rasid_", "rasid:", "process_"].iter().any(|start| word.starts_with(start)) && !word.ends_with(':')
    };
    words.filter(is_name).map(str::to_owned).collect()
}

/// Names of figures in what queries them, without the parts of histograms.
fn queried() -> BTreeSet<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/rasid.json")).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() > 30, "{queries:?}");
    for rules in ["deploy/prometheus/alerts.yaml", "deploy/prometheus/rules.yaml"] {
        queries.extend(read(rules).lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned));
    }
    queries.push(read("deploy/kubernetes/base/hpa.yaml"));
    queries.push(read("deploy/kubernetes/prometheus-adapter.yaml"));
    names(&queries.join("\n"))
}

fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    serde_json::Value::String(query) if key == "expr" || key == "query" => queries.push(query.clone()),
                    _ => collect(value, queries),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
        _ => {}
    }
}

/// Figures that are there only with TLS or keys, or once a caller has been turned away: they have to be described in the source.
const RARE: [&str; 6] = [
    "rasid_certificate_expiry_timestamp_seconds",
    "rasid_connections_closed_total",
    "rasid_connections_refused_total",
    "rasid_handshakes_failed_total",
    "rasid_limited_total",
    "rasid_unauthenticated_total",
];

/// A call of every kind that leaves a figure.
async fn traffic(server: &Process) {
    let tag = |body: &str| v1::TagRequest { document: Some(text(body)), options: None };
    let mut client = server.client().await;
    client.tag(tag("Rain in Basra.")).await.unwrap();
    assert_eq!(client.tag(tag(POISONED)).await.unwrap_err().code(), Code::Internal);
    let documents = vec![text("Rain in Basra. "), text("")];
    client.batch_tag(v1::BatchTagRequest { documents, options: None }).await.unwrap();
    let mut late =
        Request::new(v1::BatchTagRequest { documents: vec![text(&"Rain. ".repeat(500)); 100], options: None });
    late.set_timeout(Duration::from_millis(200));
    client.batch_tag(late).await.unwrap_err();
    server.signal("HUP");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_that_is_shown_or_watched_exists() {
    let bundle = poisoned_bundle();
    let server = Process::start(&["--model", bundle.path().to_str().unwrap()]).await;
    let fresh = server.page().unwrap();
    for first in [
        "rasid_reloads_total{what=\"keys\",result=\"failed\"} 0",
        "rasid_documents_total{outcome=\"defect\",key=\"anonymous\"} 0",
    ] {
        assert!(fresh.contains(first), "without {first} its first increase cannot be seen:\n{fresh}");
    }
    traffic(&server).await;
    let recorded: BTreeSet<_> = read("deploy/prometheus/rules.yaml")
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- record: ").map(str::to_owned))
        .collect();
    let source = read("src/metrics/security.rs");
    for name in RARE {
        assert!(source.contains(&format!("\"{name}\"")), "{name} is not counted anywhere");
    }
    let known: BTreeSet<_> = recorded.into_iter().chain(RARE.map(str::to_owned)).collect();
    let mut missing = BTreeSet::new();
    let mut page = String::new();
    for _ in 0..200 {
        page = server.page().unwrap();
        let figures = names(&page);
        missing = queried().into_iter().filter(|name| !figures.contains(name) && !known.contains(name)).collect();
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(missing.is_empty(), "{missing:?} are not in\n{page}");
    // For promtool check metrics.
    if let Some(path) = std::env::var_os("DEPLOY_SCRAPE") {
        fs::write(path, page.split_once("\r\n\r\n").unwrap().1).unwrap();
    }
}

#[test]
fn every_alert_has_its_page() {
    let alerts = read("deploy/prometheus/alerts.yaml");
    let lines = |start: &str| alerts.lines().filter_map(|line| line.trim().strip_prefix(start)).collect::<Vec<_>>();
    let (names, pages) = (lines("- alert: "), lines("runbook: docs/operations.md#"));
    assert!(names.len() > 10);
    assert_eq!(pages, names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>());
    let operations = read("docs/operations.md");
    let sections: Vec<_> = operations.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, names);
    let tests = read("deploy/prometheus/alerts.test.yaml");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}\n")), "no test has {name} fire");
    }
}

fn print_config(environment: &[(String, String)], file: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasid"));
    command.args(["serve", "--print-config", "--config"]).arg(root().join(file)).envs(environment.iter().cloned());
    command.output().unwrap()
}

/// Pairs `RASID_…=value` on the lines of a page.
fn variables(page: &str) -> Vec<(String, String)> {
    let words = page.split_whitespace().map(|word| word.trim_start_matches("Environment="));
    let pairs = words.filter(|word| word.starts_with("RASID_")).filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn settings_of_image_and_pods_hold() {
    let environment = variables(&read("Dockerfile"));
    assert!(environment.len() >= 4, "{environment:?}");
    let output = print_config(&environment, "deploy/kubernetes/base/rasid.toml");
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, _) in &environment {
        assert!(page.contains(&format!("# {name}\n")), "{name} is no setting: {page}");
    }
    // As many threads as CPUs requested, and ports as in the manifests.
    let deployment = read("deploy/kubernetes/base/deployment.yaml");
    let threads = page.lines().find_map(|line| line.strip_prefix("threads = ")).unwrap();
    let threads = threads.split_whitespace().next().unwrap();
    assert!(deployment.contains(&format!("cpu: \"{threads}\"")));
    assert!(deployment.contains("containerPort: 50051") && deployment.contains("containerPort: 9464"));
    // Settings of the variant with TLS.
    let overlay = read("deploy/kubernetes/tls/deployment.yaml");
    let names: Vec<_> = overlay.split_whitespace().filter(|word| word.starts_with("RASID_")).collect();
    let known = Command::new(env!("CARGO_BIN_EXE_rasid")).args(["serve", "--help"]).output().unwrap().stdout;
    let health = Command::new(env!("CARGO_BIN_EXE_rasid")).args(["health", "--help"]).output().unwrap().stdout;
    let known = String::from_utf8([known, health].concat()).unwrap();
    assert!(names.len() >= 5 && names.iter().all(|name| known.contains(name)), "{names:?}");
}

#[test]
fn the_unit_gives_the_service_its_time() {
    let unit = read("deploy/systemd/rasid.service");
    let seconds = |key: &str| -> u64 { unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse().unwrap() };
    assert!(seconds("TimeoutStopSec=") > 30 && seconds("WatchdogSec=") >= 10);
    let environment = variables(&unit);
    let output = print_config(&environment, "config/rasid.toml");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("# RASID_LOG_FORMAT"));
}
