//! A model on the hub: fetched once, checked like any other, and found again without a network.

mod support;

use std::{fs, path::Path, process::Command};

use support::{
    copy_bundle,
    hub::{COMMIT, Hub, TOKEN},
};

/// What `model info` prints, or what it says on standard error when it fails.
fn model_info(model: &str, home: &Path, environment: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasid"));
    command.args(["model", "info", "--model", model]).env("HF_HOME", home);
    for name in ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => {
            assert!(matches!(code, Some(1 | 2)) && output.stdout.is_empty(), "{code:?}");
            assert_eq!(stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{stderr}");
            Err(stderr)
        }
    }
}

#[test]
fn a_model_is_fetched_once_and_found_again_offline() {
    let bundle = copy_bundle();
    let hub = Hub::serve(bundle.path());
    let home = tempfile::tempdir().unwrap();
    let online = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_TOKEN", TOKEN)];

    let fetched = model_info("hf:acme/news@v1", home.path(), &online).unwrap();
    assert!(fetched.contains("rasid-news"), "{fetched}");
    assert!(!hub.requests().is_empty());

    // A branch or tag is looked up again, its files are not fetched again.
    assert_eq!(model_info("hf:acme/news@v1", home.path(), &online).unwrap(), fetched);
    let again = hub.requests();
    assert!(!again.is_empty() && again.iter().all(|path| path.ends_with("/v1/manifest.json")), "{again:?}");

    // A commit cannot move.
    assert_eq!(model_info(&format!("hf:acme/news@{COMMIT}"), home.path(), &online).unwrap(), fetched);
    assert_eq!(hub.requests(), [""; 0]);

    let offline = [online[0], ("HF_HUB_OFFLINE", "1")];
    assert_eq!(model_info("hf:acme/news@v1", home.path(), &offline).unwrap(), fetched);
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn offline_without_the_model_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let error = model_info("hf:acme/news@v1", home.path(), &[("HF_HUB_OFFLINE", "1")]).unwrap_err();
    assert!(error.contains("manifest.json of acme/news") && error.contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn what_the_hub_refuses_is_named() {
    let bundle = copy_bundle();
    let hub = Hub::serve(bundle.path());
    let home = tempfile::tempdir().unwrap();
    let endpoint = ("HF_ENDPOINT", hub.endpoint.as_str());
    for (model, token, repo, status) in [
        ("hf:acme/news@v1", "wrong", "acme/news", "401"),
        ("hf:acme/other", TOKEN, "acme/other", "404"),
        ("hf:acme/news@v2", TOKEN, "acme/news", "404"),
    ] {
        let error = model_info(model, home.path(), &[endpoint, ("HF_TOKEN", token)]).unwrap_err();
        assert!(error.contains(&format!("manifest.json of {repo}")) && error.contains(status), "{error}");
        assert!(!error.contains(token), "{error}");
    }
    let unreachable = [("HF_ENDPOINT", "http://127.0.0.1:9"), ("HF_TOKEN", TOKEN)];
    let error = model_info("hf:acme/news@v1", home.path(), &unreachable).unwrap_err();
    assert!(error.contains("cannot fetch manifest.json of acme/news"), "{error}");
    assert!(model_info("hf:nope", home.path(), &[endpoint]).unwrap_err().contains("hf:ORG/NAME"));
}

#[test]
fn a_file_that_the_hub_damages_is_refused() {
    let bundle = copy_bundle();
    let path = bundle.path().join("tokenizer.json");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let hub = Hub::serve(bundle.path());
    let home = tempfile::tempdir().unwrap();
    let online = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_TOKEN", TOKEN)];
    let error = model_info("hf:acme/news@v1", home.path(), &online).unwrap_err();
    assert!(error.contains("tokenizer.json is damaged") && error.contains("SHA-256"), "{error}");
}
