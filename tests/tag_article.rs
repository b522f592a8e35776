//! The first article: an agency report on a security meeting, in Arabic, longer than a model window.

mod support;

use std::process::Command;

use rasid::{proto, proto::v1};
use support::{TestServer, analysis, arabic_article, articles, assert_same, text};

#[tokio::test]
async fn server_batch_and_command_line_say_the_same() {
    let server = TestServer::start(&[]).await;
    let client = &mut server.client().await;
    let article = arabic_article();
    let alone = v1::TagRequest { document: Some(text(&article)), options: None };
    let alone = client.tag(alone).await.unwrap().into_inner().analysis.unwrap();

    // Among 64 others, some of them a line, some a whole article.
    let articles = articles();
    let lines = articles.iter().flat_map(|(_, body)| body.lines()).filter(|line| !line.is_empty());
    let whole = articles.iter().map(|(_, body)| body.as_str());
    let texts: Vec<&str> = whole.chain(lines).collect();
    let mut documents: Vec<v1::Document> = texts.into_iter().cycle().take(63).map(text).collect();
    documents.insert(31, text(&article));
    let request = v1::BatchTagRequest { documents, options: None };
    let results = client.batch_tag(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 64);
    assert_same(&alone, analysis(&results[31]));

    let output = Command::new(env!("CARGO_BIN_EXE_rasid"))
        .args(["tag", "--format", "json", "examples/articles/ar_security_meeting.txt"])
        .current_dir(support::root())
        .env("RASID_MODEL", support::model_folder())
        .output()
        .unwrap();
    assert!(output.status.success());
    let line = String::from_utf8(output.stdout).unwrap();
    let result: v1::DocumentResult = proto::from_json("rasid.v1.DocumentResult", line.trim()).unwrap();
    assert_same(&alone, analysis(&result));
}

#[tokio::test]
async fn topics_and_names_of_the_article_are_found() {
    let server = TestServer::start(&[]).await;
    let article = arabic_article();
    let request = v1::TagRequest { document: Some(text(&article)), options: None };
    let response = server.client().await.tag(request).await.unwrap().into_inner();
    let found = response.analysis.unwrap();
    let topics: Vec<&str> = found.topics.iter().map(|score| score.topic.as_str()).collect();
    assert_eq!(topics, ["security", "politics"]);
    assert_eq!(found.topics[0].iptc_code, "medtop:16000000");

    let coverage = found.coverage.unwrap();
    assert!(coverage.total_tokens > 512 && coverage.windows > 1);
    assert_eq!(coverage.total_tokens, coverage.analyzed_tokens);
    assert_eq!(found.language.unwrap().code, "ar");

    let expected = [
        ("ORG", "مجلس النواب العراقي"),
        ("ORG", "وزارة الداخلية"),
        ("PER", "آزاد كوران"),
        ("PER", "حيدر السعدون"),
        ("PER", "قاسم العبيدي"),
        ("LOC", "بغداد"),
        ("LOC", "كركوك"),
        ("LOC", "أربيل"),
    ];
    for (kind, name) in expected {
        let is_it = |entity: &&v1::Entity| entity.r#type == kind && entity.span.as_ref().unwrap().content == name;
        assert!(found.entities.iter().find(is_it).is_some(), "{kind} {name} is not found");
    }
    let timings = response.timings.unwrap();
    let nanoseconds = |duration: Option<prost_types::Duration>| {
        let duration = duration.unwrap();
        duration.seconds * 1_000_000_000 + i64::from(duration.nanos)
    };
    assert!(nanoseconds(timings.inference) > 0);
    assert!(nanoseconds(timings.total) >= nanoseconds(timings.inference));
}
