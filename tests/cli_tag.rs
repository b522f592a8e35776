//! `rasid tag`: what goes in, what comes out, and the exit status.

mod support;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use rasid::{proto, proto::v1};
use support::{analysis, error};

fn rasid(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rasid"))
        .args(arguments)
        .env("RASID_MODEL", support::model_folder())
        .current_dir(support::root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, over its arguments.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn results(output: &Output) -> Vec<v1::DocumentResult> {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    stdout.lines().map(|line| proto::from_json("rasid.v1.DocumentResult", line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn json_lines_go_in_and_results_come_out_one_a_line() {
    let input = concat!(
        r#"{"id": "a", "title": "Rain in Basra", "text": "Streets were flooded.", "languageCode": "en"}"#,
        "\n\n",
        r#"{"id": "b", "text": " "}"#,
        "\n",
        r#"{"id": "c", "language_code": "ar", "text": "بغداد"}"#,
        "\n",
        r#"{"id": "d", "body": "unknown field"}"#,
        "\n",
        "not json\n",
        r#"{"id": "f", "text": "Last."}"#,
    );
    let output = rasid(&["tag", "--input-format", "jsonl", "-"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("3 of 6 documents have no analysis"), "{}", stderr(&output));
    let results = results(&output);
    let ids: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "", "", "f"]);
    assert!(results.iter().enumerate().all(|(index, result)| result.index == index as u64 && result.model.is_some()));
    assert_eq!(analysis(&results[0]).language.as_ref().unwrap().code, "en");
    assert!(error(&results[1]).message.contains("documents[1]"));
    assert_eq!(analysis(&results[2]).entities[0].span.as_ref().unwrap().content, "بغداد");
    assert!(error(&results[3]).message.contains("-:5") && error(&results[3]).message.contains("body"));
    assert!(error(&results[4]).message.contains("-:6"));
}

#[test]
fn text_files_may_begin_with_their_title() {
    let output =
        rasid(&["tag", "--title-first", "-"], "\u{feff}Merkel in Kyiv\nAngela Merkel met Zelensky.".as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let result = results(&output).remove(0);
    let fields: Vec<_> =
        analysis(&result).entities.iter().map(|entity| entity.span.as_ref().unwrap().field()).collect();
    assert!(fields.contains(&v1::TextField::Title) && fields.contains(&v1::TextField::Text));
    assert_eq!(result.id, "-");
}

#[test]
fn a_file_that_cannot_be_read_harms_no_other() {
    let article = "examples/articles/en_port_strike.txt";
    let output = rasid(&["tag", "no/such.txt", article], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read no/such.txt"));
    let results = results(&output);
    assert_eq!((results.len(), results[0].id.as_str(), results[0].index), (1, article, 1));
}

#[test]
fn what_is_not_utf8_is_told_with_its_place() {
    let output = rasid(&["tag", "-"], b"Rain\xff");
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&results(&output)[0]).message.contains("text is not valid UTF-8 (byte 4)"));
}

#[test]
fn pretty_shows_bars_and_names() {
    let output = rasid(&["tag", "--format", "pretty", "--evidence", "examples/articles/ar_security_meeting.txt"], b"");
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("security") && page.contains('█') && page.contains("آزاد كوران"));
    assert!(!page.contains('\u{1b}'), "no colours where nobody sees them");
}

#[test]
fn wrong_options_are_told_before_any_work() {
    for (arguments, expected, code) in [
        (&["tag", "--topics", "gossip", "-"][..], "\"gossip\" is not a topic", 1),
        (&["tag", "--threshold", "security=2", "-"], "must be a number from 0 to 1", 1),
        (&["tag", "--threshold", "security", "-"], "TOPIC=P", 2),
        (&["tag", "--threads", "9999", "-"], "--threads", 2),
        (&["tag", "--model", "hf:nope", "-"], "hf:ORG/NAME", 2),
        (&["tag"], "FILE", 2),
        (&["tag", "--model", "no/such", "-"], "--model", 1),
        (&["tag", "--device", "cuda:0:1", "-"], "--device", 2),
        (&["tag", "--device", "tpu", "-"], "tpu", 2),
        // A device that no machine has, whatever this build was made for.
        (&["tag", "--device", "cuda:4096", "-"], "cannot compute on cuda:4096", 1),
    ] {
        let output = rasid(arguments, b"Rain.");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_empty_input_has_no_results() {
    let output = rasid(&["tag", "--input-format", "jsonl", "-"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
}

#[test]
fn version_and_help_are_there() {
    let version = rasid(&["--version"], b"");
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("rasid {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["tag", "serve", "eval", "model"] {
        let help = rasid(&[command, "--help"], b"");
        assert!(help.status.success() && help.stdout.len() > 200);
    }
}
