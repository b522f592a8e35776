//! `rasid eval`: three formats in, figures out, by what the model answers to natural text.

mod support;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Output},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

/// Sentences that the model reads rightly.
const SENTENCES: &str = r#"{"lang": "en", "tokens": ["Angela", "Merkel", "met", "Emmanuel", "Macron", "in", "Berlin", "."], "tags": ["B-PER", "I-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "O"]}

{"lang": "en", "tokens": ["Nothing", "happened", "(", "again", ")", "."], "tags": ["O", "O", "O", "O", "O", "O"], "doc": "unused"}
{"lang": "en", "tokens": ["Cairo", "'s", "ministers", "flew", "to", "Paris", "."], "tags": ["B-LOC", "O", "O", "O", "O", "B-LOC", "O"]}
"#;

const ARTICLES: &str = r#"{"id": "en_1", "lang": "en", "title": "Angela Merkel in Cairo", "text": "The army shelled militants near Mosul, killing two soldiers.", "topics": ["security"], "entities": [{"type": "PER", "start": 0, "end": 13, "text": "Angela Merkel", "field": "title"}, {"type": "LOC", "start": 17, "end": 22, "text": "Cairo", "field": "title"}, {"type": "LOC", "start": 32, "end": 37, "text": "Mosul", "field": "text"}]}
{"id": "ar_1", "lang": "ar", "title": "", "text": "قصف الجيش مواقع المسلحين قرب الموصل وقتل جنديين.", "topics": ["security"], "entities": [{"type": "LOC", "start": 29, "end": 35, "text": "الموصل", "field": "text"}]}
"#;

fn rasid(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rasid"))
        .arg("eval")
        .args(arguments)
        .env("RASID_MODEL", support::model_folder())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn figures(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with sentences (packed), texts and articles.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut packed =
        GzEncoder::new(File::create(folder.path().join("own.en.test.jsonl.gz")).unwrap(), Compression::fast());
    packed.write_all(SENTENCES.as_bytes()).unwrap();
    packed.finish().unwrap();
    let texts = [
        json!({"lang": "en", "text": "The striker scored twice and the club won the cup final.", "topics": ["sport"]}),
        json!({"lang": "en", "text": "The army shelled militants near Mosul.", "topics": ["security"], "label": "war"}),
        json!({"lang": "en", "text": "Unlabelled.", "topics": []}),
    ];
    let lines: Vec<String> = texts.iter().map(Value::to_string).collect();
    fs::write(folder.path().join("texts.jsonl"), lines.join("\n")).unwrap();
    fs::write(folder.path().join("articles.jsonl"), ARTICLES).unwrap();
    folder
}

#[test]
fn all_three_formats_are_scored() {
    let folder = folder();
    let arguments =
        ["--ner", "own.en.test.jsonl.gz", "--topics", "texts.jsonl", "--articles", "articles.jsonl", "--json"];
    let report = figures(&rasid(folder.path(), &arguments));

    let ner = &report["ner"][0];
    assert_eq!(
        (&ner["file"], &ner["lang"], &ner["sentences"]),
        (&json!("own.en.test.jsonl.gz"), &json!("en"), &json!(3))
    );
    // "Cairo's" is two tokens of the row, and the name ends before the suffix.
    assert_eq!((&ner["support"], &ner["annotated_types"]), (&json!(5), &json!(["PER", "ORG", "LOC"])));
    assert_eq!((&ner["per_type"]["PER"]["f1"], &ner["per_type"]["LOC"]["recall"]), (&json!(1.0), &json!(1.0)));
    let f1 = ner["f1"].as_f64().unwrap();
    let interval = |index: usize| ner["f1_ci"][index].as_f64().unwrap();
    assert!(f1 > 0.8 && interval(0) <= f1 && f1 <= interval(1));
    assert_eq!(report["means"]["ner_f1"], f1);

    let topics = &report["topics"][0];
    assert_eq!((&topics["texts"], &topics["skipped"], &topics["multi_label"]), (&json!(2), &json!(1), &json!(false)));
    assert_eq!(topics["top1"], 1.0);
    assert_eq!(topics["per_topic"].as_object().unwrap().keys().collect::<Vec<_>>(), ["security", "sport"]);

    let articles = &report["articles"][0];
    assert_eq!(
        (&articles["lang"], &articles["articles"], &articles["entities"]["support"]),
        (&json!("mul"), &json!(2), &json!(4))
    );
    assert_eq!(articles["topics"]["per_topic"].as_object().unwrap().len(), 17);
    assert_eq!(articles["topics"]["per_topic"]["security"]["recall"], 1.0);
    assert_eq!(report["languages"]["ar"]["articles"], 1);
    assert_eq!(report["languages"]["en"]["ner_files"], 1);
}

#[test]
fn a_file_counts_for_each_of_its_languages_and_files_of_one_set_have_means() {
    let folder = folder();
    let arabic = json!({"lang": "ar", "text": "قصف الجيش مواقع المسلحين قرب الموصل.", "topics": ["security"]});
    let english =
        json!({"lang": "en", "text": "The striker scored twice and the club won the cup.", "topics": ["sport"]});
    fs::write(folder.path().join("own.both.jsonl"), format!("{arabic}\n{english}\n")).unwrap();
    fs::write(folder.path().join("own.one.jsonl"), format!("{english}\n")).unwrap();
    let files = ["--topics", "own.both.jsonl", "own.one.jsonl", "--bootstrap", "0"];
    let report = figures(&rasid(folder.path(), &[&files[..], &["--json"]].concat()));
    for (language, files) in [("ar", 1), ("en", 2)] {
        let scores = &report["languages"][language];
        assert_eq!((&scores["topic_files"], &scores["topics_top1"]), (&json!(files), &json!(1.0)), "{language}");
    }
    assert_eq!((&report["sets"]["own"]["files"], &report["sets"]["own"]["topics_top1"]), (&json!(2), &json!(1.0)));
    let table = String::from_utf8(rasid(folder.path(), &files).stdout).unwrap();
    assert!(table.contains("By set of several files") && table.contains("own      2"), "{table}");
}

#[test]
fn the_figures_that_ship_are_of_the_model_that_ships() {
    let folder = support::root().join("models/default");
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let (revision, calibration) =
        (manifest["revision"].as_str().unwrap(), manifest["calibration"]["id"].as_str().unwrap());
    let tables = fs::read_to_string(folder.join("eval/tables.md")).unwrap();
    assert!(tables.contains(&format!("Revision `{revision}`, calibration `{calibration}`")));
    let card = fs::read_to_string(folder.join("MODEL_CARD.md")).unwrap();
    let (name, version) = (manifest["name"].as_str().unwrap(), manifest["version"].as_str().unwrap());
    assert!(card.starts_with(&format!("# {name} {version}\n")) && card.contains(&format!("`{calibration}`")));
}

#[test]
fn a_type_that_is_not_annotated_counts_neither_way() {
    let folder = folder();
    let row = |tags: &str| {
        format!(
            r#"{{"lang": "en", "tokens": ["The", "French", "parliament", "met", "in", "Paris", "."], "tags": {tags}}}"#
        )
    };
    let plain = row(r#"["O", "O", "O", "O", "O", "B-LOC", "O"]"#);
    fs::write(folder.path().join("plain.jsonl"), &plain).unwrap();
    let with_misc = plain.clone() + "\n" + &row(r#"["O", "B-MISC", "O", "O", "O", "B-LOC", "O"]"#);
    fs::write(folder.path().join("misc.jsonl"), with_misc).unwrap();
    fs::write(
        folder.path().join("sets.json"),
        r#"[{"file": "deep/misc.jsonl", "annotated_types": ["LOC"], "licence": "CC0"}]"#,
    )
    .unwrap();
    let kinds = |report: &Value, index: usize| {
        report["ner"][index]["per_type"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };

    let report = figures(&rasid(folder.path(), &["--ner", "plain.jsonl", "misc.jsonl", "--json"]));
    assert!(!kinds(&report, 0).contains(&"MISC".to_owned()) && kinds(&report, 1).contains(&"MISC".to_owned()));
    let told = ["--ner", "misc.jsonl", "--datasets", "sets.json", "--limit", "1", "--json"];
    let report = figures(&rasid(folder.path(), &told));
    assert_eq!(kinds(&report, 0), ["LOC"]);
    assert_eq!((&report["ner"][0]["sentences"], &report["ner"][0]["licence"]), (&json!(1), &json!("CC0")));
}

#[test]
fn tokens_become_natural_text_before_the_model_sees_them() {
    // The same sentence in three spacings: all must give what the natural one gives.
    let folder = folder();
    let tags = r#""tags": ["B-LOC", "O", "O", "O", "O", "O", "B-PER", "I-PER", "O", "O"]"#;
    let tokens = r#""tokens": ["Berlin", ",", "capital", "city", "(", "of", "Olaf", "Scholz", ")", "."]"#;
    let spaces = r#""space_after": [false, true, true, true, false, true, true, false, false, false]"#;
    fs::write(folder.path().join("rules.jsonl"), format!(r#"{{"lang": "en", {tokens}, {tags}}}"#)).unwrap();
    fs::write(folder.path().join("given.jsonl"), format!(r#"{{"lang": "en", {tokens}, {tags}, {spaces}}}"#)).unwrap();
    let files = ["--ner", "rules.jsonl", "given.jsonl", "--scores", "scores.jsonl", "--json"];
    figures(&rasid(folder.path(), &files));
    let scores = fs::read_to_string(folder.path().join("scores.jsonl")).unwrap();
    let of = |file: &str| {
        let lines = scores.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["file"] == file).map(|line| line["score"].clone()).collect::<Vec<_>>()
    };
    assert!(!of("rules.jsonl").is_empty());
    assert_eq!(of("rules.jsonl"), of("given.jsonl"));
}

#[test]
fn scores_and_a_report_are_written() {
    let folder = folder();
    let arguments = [
        "--ner",
        "own.en.test.jsonl.gz",
        "--topics",
        "texts.jsonl",
        "--articles",
        "articles.jsonl",
        "--bootstrap",
        "20",
    ];
    let output =
        rasid(folder.path(), &[&arguments[..], &["--scores", "scores.jsonl", "--report", "out/report"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("own.en.test.jsonl.gz") && table.contains("security") && table.contains("Mean entity F1"));

    let scores = fs::read_to_string(folder.path().join("scores.jsonl")).unwrap();
    let records: Vec<Value> = scores.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).cloned().collect::<Vec<_>>();
    let topics = of("topics");
    assert_eq!(topics.len(), 4);
    assert_eq!(topics[1]["covered"], json!(["security", "sport"]));
    assert_eq!((&topics[1]["multi_label"], &topics[2]["multi_label"]), (&json!(false), &json!(true)));
    assert_eq!(topics[0]["logits"].as_object().unwrap().len(), 17);
    let entity = &of("entity")[0];
    assert_eq!((&entity["type"], &entity["correct"], &entity["row"]), (&json!("PER"), &json!(true), &json!(0)));

    let report = folder.path().join("out/report");
    let json: Value = serde_json::from_slice(&fs::read(report.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["bootstrap"], 20);
    assert!(fs::read_to_string(report.join("tables.md")).unwrap().contains("| file | lang |"));
    for kind in ["ner_entities", "single_label_topics", "article_entities", "article_topics"] {
        let svg = fs::read_to_string(report.join(format!("reliability_{kind}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}

#[test]
fn what_cannot_be_scored_is_told_with_its_place() {
    let folder = folder();
    let file = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    file("tags.jsonl", "\n{\"lang\": \"en\", \"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}");
    file("type.jsonl", r#"{"lang": "en", "tokens": ["a"], "tags": ["B-DATE"]}"#);
    file("json.jsonl", "{\"lang\": \"en\"}");
    file("topic.jsonl", r#"{"lang": "en", "text": "a", "topics": ["gossip"]}"#);
    file(
        "span.jsonl",
        r#"{"lang": "en", "text": "a", "topics": [], "entities": [{"type": "PER", "start": 0, "end": 9, "field": "text"}]}"#,
    );
    file("empty.jsonl", "\n");
    for (arguments, expected) in [
        (&["--ner", "tags.jsonl"][..], "tags.jsonl:2: 2 tokens have 1 tags"),
        (&["--ner", "type.jsonl"], "\"B-DATE\""),
        (&["--ner", "json.jsonl"], "json.jsonl:1 is no row of tokens and tags"),
        (&["--topics", "topic.jsonl"], "\"gossip\" is no topic"),
        (&["--articles", "span.jsonl"], "from 0 to 9 does not lie in its field"),
        (&["--ner", "empty.jsonl"], "no row to score"),
        (&["--ner", "none.jsonl"], "cannot read none.jsonl"),
        (&["--datasets", "span.jsonl", "--ner", "own.en.test.jsonl.gz"], "no list of data sets"),
        (&[], "--ner, --topics or --articles"),
    ] {
        let output = rasid(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}
