//! `rasid bench`: what it prints is whole, in its documented shape.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{TestServer, model_folder, root};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rasid"))
        .arg("bench")
        .args(arguments)
        .env("RASID_MODEL", model_folder())
        .current_dir(root())
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn load(server: &TestServer, arguments: &[&str]) -> Value {
    let url = format!("http://{}", server.address);
    let arguments: Vec<String> =
        ["load", "--json", "--server", &url].iter().chain(arguments).map(ToString::to_string).collect();
    let run = move || bench(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    json(&tokio::task::spawn_blocking(run).await.unwrap())
}

#[test]
fn encoder_prints_a_point_for_each_length_and_batch() {
    let output =
        bench(&["encoder", "--lengths", "8,16", "--batches", "1,2", "--seconds", "0", "--threads", "2", "--json"]);
    let points = json(&output);
    let shape = |point: &Value| (point["batch"].as_u64().unwrap(), point["length"].as_u64().unwrap());
    let shapes: Vec<_> = points.as_array().unwrap().iter().map(shape).collect();
    assert_eq!(shapes, [(1, 8), (1, 16), (2, 8), (2, 16)]);
    for point in points.as_array().unwrap() {
        let tokens = point["batch"].as_f64().unwrap() * point["length"].as_f64().unwrap();
        let seconds = point["milliseconds"].as_f64().unwrap() / 1e3;
        assert!((tokens / seconds / point["tokens_per_second"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn encoder_takes_a_list_of_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lengths.json");
    std::fs::write(&file, "[5, 70, 12]").unwrap();
    let figure = json(&bench(&["encoder", "--sequences", file.to_str().unwrap(), "--seconds", "0", "--json"]));
    assert_eq!((&figure["sequences"], &figure["tokens"]), (&3.into(), &87.into()));

    std::fs::write(&file, "[5, 0]").unwrap();
    let output = bench(&["encoder", "--sequences", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lengths.json"), "names the file");
}

#[test]
fn job_says_where_the_time_goes() {
    let job = json(&bench(&["job", "examples/articles/en_port_strike.txt", "--seconds", "0", "--json"]));
    assert_eq!(job["documents"], 1);
    assert!(job["stages"]["encode_milliseconds"].as_f64().unwrap() > 0.0);
    assert!(job["tokens_per_second"].as_f64().unwrap() > job["documents_per_second"].as_f64().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn load_counts_what_was_answered_and_what_failed() {
    let server = TestServer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.jsonl");
    std::fs::write(&file, "{\"text\": \"Rain in Basra.\"}\n{\"text\": \" \"}\n").unwrap();
    let load = load(&server, &[file.to_str().unwrap(), "--rounds", "5", "--concurrency", "3"]).await;
    assert_eq!((&load["calls"], &load["failed"]["InvalidArgument"]), (&10.into(), &5.into()));
    let latency = &load["latency_milliseconds"];
    assert!(latency["p50"].as_f64().unwrap() > 0.0 && latency["p50"].as_f64() <= latency["max"].as_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn load_brings_articles_of_its_own() {
    let server = TestServer::start(&[]).await;
    let load = load(&server, &["--concurrency", "2"]).await;
    // Ten calls in each of two places, in whole rounds of eight articles.
    assert_eq!((&load["calls"], &load["failed"]), (&24.into(), &serde_json::json!({})));
}
