//! `rasid model calibrate`: from scores to a sealed bundle whose answers are calibrated.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rasid::{
    model::{Bundle, Manifest},
    proto::v1,
};
use serde_json::json;
use support::{
    TestServer,
    calibration::{self, sigmoid},
    copy_bundle, text,
};

fn calibrate(bundle: &Path, scores: &Path, id: &str) -> Output {
    let arguments = ["model", "calibrate", "--id", id];
    Command::new(env!("CARGO_BIN_EXE_rasid"))
        .args(arguments)
        .arg("--bundle")
        .arg(bundle)
        .arg("--scores")
        .arg(scores)
        .output()
        .unwrap()
}

fn manifest(bundle: &Path) -> Manifest {
    Bundle::open(bundle).unwrap().into_manifest()
}

/// Scores of texts and entities that follow another calibration than the model's own. No text has `rare`.
fn scores(manifest: &Manifest, rare: &str) -> String {
    let mut random = fastrand::Rng::with_seed(11);
    let names: Vec<&str> = manifest.topics.iter().map(|topic| topic.id.as_str()).collect();
    let mut lines = Vec::new();
    for row in 0..400 {
        let logits: Vec<f64> = names.iter().map(|_| 8.0 * random.f64() - 6.0).collect();
        let has = |index: usize, random: &mut fastrand::Rng| {
            names[index] != rare && random.f64() < sigmoid(0.5 * logits[index] - 0.5)
        };
        let gold: Vec<&str> =
            (0..names.len()).filter(|&index| has(index, &mut random)).map(|index| names[index]).collect();
        let logits: serde_json::Map<_, _> =
            names.iter().map(|name| name.to_string()).zip(logits.iter().map(|&logit| json!(logit))).collect();
        lines.push(json!({"kind": "topics", "file": "a", "row": row, "lang": "en", "gold": gold, "covered": names, "multi_label": true, "logits": logits}));
        // Would turn every topic's fit over, if it were taken for complete.
        lines.push(json!({"kind": "topics", "file": "b", "row": row, "lang": "en", "gold": [], "covered": names, "multi_label": false, "logits": logits}));
        for kind in ["PER", "ORG", "LOC", "MISC"] {
            let logit = 6.0 * random.f64() - 2.0;
            let correct = json!(random.f64() < sigmoid(0.8 * logit + 0.4));
            lines.push(json!({"kind": "entity", "file": "a", "row": row, "lang": "en", "type": kind, "score": sigmoid(logit), "correct": correct}));
            lines.push(json!({"kind": "entity", "file": "b", "row": row, "lang": "en", "type": kind, "score": 0.99, "correct": null}));
        }
    }
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

#[tokio::test]
async fn a_calibrated_bundle_says_so_and_answers_so() {
    let bundle = copy_bundle();
    let before = manifest(bundle.path());
    let file = bundle.path().join("scores.jsonl");
    fs::write(&file, scores(&before, "weather")).unwrap();
    let output = calibrate(bundle.path(), &file, "own-1");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("own-1")
            && told.contains("400 texts left out")
            && told.contains("few: fewer than")
            && told.contains("not seen, by 10 folds"),
        "{told}"
    );

    let after = manifest(bundle.path());
    assert_ne!(after.revision, before.revision);
    assert_eq!((after.calibration.id.as_str(), after.calibration.calibrated), ("own-1", true));
    for topic in &after.topics {
        assert_eq!(topic.fitted, topic.id != "weather", "{}", topic.id);
        for logit in [-5.0, -2.0, 1.0] {
            let (fitted, truth) = (calibration::probability(&topic.calibration(), logit), sigmoid(0.5 * logit - 0.5));
            // Of a topic that no text has, it is that of all.
            assert!((fitted - truth).abs() < 0.1, "{topic:?}: {fitted} at {logit}, not {truth}");
        }
        assert!((0.2..=0.8).contains(&topic.threshold));
    }
    for kind in &after.entity_types {
        let fitted = kind.calibration.unwrap();
        for logit in [-1.5, 0.5, 3.0] {
            let (probability, truth) = (calibration::probability(&fitted, logit), sigmoid(0.8 * logit + 0.4));
            assert!((probability - truth).abs() < 0.1, "{kind:?}: {probability} at {logit}, not {truth}");
        }
    }

    let server = TestServer::start(&["--model", bundle.path().to_str().unwrap()]).await;
    let mut client = server.client().await;
    let info = client.get_model_info(v1::GetModelInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.model.unwrap().calibration_id, "own-1");
    assert!(info.topics.iter().all(|topic| topic.calibrated == (topic.topic != "weather")));

    let plain = TestServer::start(&[]).await;
    let mut uncalibrated = plain.client().await;
    let options = || v1::TagOptions { include_all_scores: true, ..v1::TagOptions::default() };
    let request = |options| v1::TagRequest {
        document: Some(text("Angela Merkel met the army in Berlin.")),
        options: Some(options),
    };
    let new = client.tag(request(options())).await.unwrap().into_inner().analysis.unwrap();
    let old = uncalibrated.tag(request(options())).await.unwrap().into_inner().analysis.unwrap();
    let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-4, "{a} is not {b}");
    for score in &new.topics {
        let was = old.topics.iter().find(|was| was.topic == score.topic).unwrap();
        let spec = |manifest: &Manifest| manifest.topics.iter().find(|topic| topic.id == score.topic).cloned().unwrap();
        let (was_spec, spec) = (spec(&before), spec(&after));
        near(
            score.probability,
            calibration::probability(&spec.calibration(), calibration::logit(&was_spec.calibration(), was.probability)),
        );
        assert_eq!(score.threshold, spec.threshold);
    }
    assert_eq!(new.entities.len(), old.entities.len());
    let least = new.entities.iter().map(|entity| entity.probability).fold(1.0, f32::min);
    // The threshold is one on calibrated probabilities.
    let above = v1::TagOptions { min_probability: Some(least + 1e-4), ..options() };
    let fewer = client.tag(request(above)).await.unwrap().into_inner().analysis.unwrap();
    assert!(fewer.entities.len() < new.entities.len());
    assert!(new.entities.iter().zip(&old.entities).any(|(new, old)| (new.probability - old.probability).abs() > 1e-3));
}

#[test]
fn what_cannot_be_fitted_on_changes_nothing() {
    let bundle = copy_bundle();
    let before = fs::read(bundle.path().join("manifest.json")).unwrap();
    let file = bundle.path().join("scores.jsonl");
    let entity =
        json!({"kind": "entity", "file": "a", "row": 0, "lang": "en", "type": "PER", "score": 0.9, "correct": true});
    let texts = |multi_label: bool, topic: &str| json!({"kind": "topics", "file": "a", "row": 0, "lang": "en", "gold": [topic], "covered": [topic], "multi_label": multi_label, "logits": {topic: 1.0}});
    for (content, id, expected, code) in [
        (entity.to_string(), "x", "names all of its topics", 1),
        (format!("{entity}\n{}", texts(false, "sport")), "x", "names all of its topics", 1),
        (texts(true, "sport").to_string(), "x", "an entity whose type is annotated", 1),
        (format!("{entity}\n{}", texts(true, "gossip")), "x", ":2: \"gossip\" is no topic", 1),
        ("{}".to_owned(), "x", ":1 is no score", 1),
        (
            texts(true, "sport").to_string().replace("1.0", "1e39"),
            "x",
            ":1: the score of \"sport\" is inf, must be finite",
            1,
        ),
        (entity.to_string(), "none", "--id", 2),
    ] {
        fs::write(&file, &content).unwrap();
        let output = calibrate(bundle.path(), &file, id);
        assert_eq!(output.status.code(), Some(code), "{content}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(expected), "{content}: {told}");
        assert_eq!(fs::read(bundle.path().join("manifest.json")).unwrap(), before);
    }
    let output = calibrate(bundle.path(), Path::new("no/such"), "x");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read no/such"));
}
