//! Every option does what the contract says.

mod support;

use rasid::{model::Bundle, proto::v1};
use support::{TestServer, arabic_article, articles, calibration, text};

async fn tag(server: &TestServer, document: v1::Document, options: v1::TagOptions) -> v1::Analysis {
    let request = v1::TagRequest { document: Some(document), options: Some(options) };
    server.client().await.tag(request).await.unwrap().into_inner().analysis.unwrap()
}

fn options() -> v1::TagOptions {
    v1::TagOptions { include_all_scores: true, ..v1::TagOptions::default() }
}

#[tokio::test]
async fn thresholds_filters_and_scores() {
    let server = TestServer::start(&[]).await;
    let article = || text(&arabic_article());
    let all = tag(&server, article(), options()).await;
    assert_eq!(all.topics.len(), 17);
    assert!(all.topics.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    assert!(all.topics.iter().all(|score| score.assigned == (score.probability >= score.threshold)));
    let probability = |analysis: &v1::Analysis, topic: &str| {
        analysis.topics.iter().find(|score| score.topic == topic).map(|score| score.probability)
    };

    let assigned = tag(&server, article(), v1::TagOptions::default()).await;
    let expected: Vec<_> = all.topics.iter().filter(|score| score.assigned).cloned().collect();
    assert_eq!(assigned.topics, expected);

    // A topic's own threshold comes before the one for all.
    let (topic_thresholds, min_probability) = ([("security".to_owned(), 1.0)].into(), Some(0.0));
    let strict = tag(&server, article(), v1::TagOptions { topic_thresholds, min_probability, ..options() }).await;
    assert!(strict.topics.iter().all(|score| score.assigned == (score.topic != "security")));
    assert_eq!(probability(&strict, "security"), probability(&all, "security"));

    let topics = vec!["sport".to_owned(), "security".to_owned()];
    let two = tag(&server, article(), v1::TagOptions { topics, ..options() }).await;
    let names: Vec<_> = two.topics.iter().map(|score| score.topic.as_str()).collect();
    assert_eq!(names, ["security", "sport"]);

    let entity_types = vec!["PER".to_owned()];
    let persons = tag(&server, article(), v1::TagOptions { entity_types, ..options() }).await;
    let expected: Vec<_> = all.entities.iter().filter(|entity| entity.r#type == "PER").cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(persons.entities, expected);

    let sure = tag(&server, article(), v1::TagOptions { min_probability: Some(0.9), ..options() }).await;
    let expected: Vec<_> = all.entities.iter().filter(|entity| entity.probability >= 0.9).cloned().collect();
    assert!(expected.len() < all.entities.len());
    assert_eq!(sure.entities, expected);
}

#[tokio::test]
async fn features_are_computed_only_where_asked_for() {
    let server = TestServer::start(&[]).await;
    let only = |feature: v1::Feature| v1::TagOptions { features: vec![feature.into()], ..options() };
    let topics = tag(&server, text(&arabic_article()), only(v1::Feature::Topics)).await;
    assert!(!topics.topics.is_empty() && topics.entities.is_empty() && topics.language.is_none());
    let entities = tag(&server, text(&arabic_article()), only(v1::Feature::Entities)).await;
    assert!(entities.topics.is_empty() && !entities.entities.is_empty() && entities.language.is_none());
    let language = tag(&server, text(&arabic_article()), only(v1::Feature::Language)).await;
    assert!(language.topics.is_empty() && language.entities.is_empty());
    assert_eq!(language.language.unwrap().code, "ar");
    // The model need not run for that, and the coverage says so.
    assert_eq!(language.coverage.unwrap().analyzed_tokens, 0);
    assert!(language.warnings.is_empty());
}

#[tokio::test]
async fn a_truncated_document_says_so() {
    let server = TestServer::start(&[]).await;
    let overflow_policy = v1::OverflowPolicy::Truncate.into();
    let cut = tag(&server, text(&arabic_article()), v1::TagOptions { overflow_policy, ..options() }).await;
    let coverage = cut.coverage.unwrap();
    assert_eq!(coverage.windows, 1);
    assert!(coverage.analyzed_tokens <= 126 && coverage.analyzed_tokens < coverage.total_tokens);
    assert_eq!(cut.warnings.len(), 1);
    assert_eq!(cut.warnings[0].code, "TRUNCATED");
    let whole = tag(&server, text(&arabic_article()), options()).await;
    assert!(whole.warnings.is_empty());
    assert!(cut.entities.len() < whole.entities.len());
    for (a, b) in cut.entities.iter().zip(&whole.entities) {
        assert_eq!(a.span, b.span);
    }
    let short = tag(&server, text("Rain in Basra."), v1::TagOptions { overflow_policy, ..options() }).await;
    assert!(short.warnings.is_empty());
}

#[tokio::test]
async fn evidence_adds_up_to_the_logit() {
    let server = TestServer::start(&[]).await;
    let with_evidence = v1::TagOptions { include_evidence: true, ..v1::TagOptions::default() };
    // Of one sentence: its weight and the head's bias are the logit.
    let document = || text("The general wrote a book about the war.");
    let one = tag(&server, document(), with_evidence.clone()).await;
    let security = one.topics.iter().find(|score| score.topic == "security").unwrap();
    let evidence = one.evidence.iter().find(|evidence| evidence.topic == "security").unwrap();
    // Before calibration.
    let manifest = Bundle::open(support::model_folder()).unwrap().into_manifest();
    let spec = manifest.topics.iter().find(|topic| topic.id == "security").unwrap();
    let logit = |score: &v1::TopicScore| calibration::logit(&spec.calibration(), score.probability) as f32;
    let bias = logit(security) - evidence.weight;
    // Of two in one window: their sum. Neither is so sure that its probability has no digits left.
    let two =
        tag(&server, text("The general wrote a book about the war. Readers liked its maps."), with_evidence.clone())
            .await;
    let security = two.topics.iter().find(|score| score.topic == "security").unwrap();
    let logit = logit(security);
    let sum: f32 =
        two.evidence.iter().filter(|evidence| evidence.topic == "security").map(|evidence| evidence.weight).sum();
    assert!((sum + bias - logit).abs() < 1e-3, "{sum} + {bias} is not {logit}");

    let article = tag(&server, text(&arabic_article()), with_evidence).await;
    for score in &article.topics {
        let own: Vec<_> = article.evidence.iter().filter(|evidence| evidence.topic == score.topic).collect();
        assert!((1..=3).contains(&own.len()));
        assert!(
            own.windows(2).all(|pair| pair[0].weight >= pair[1].weight)
                && own.iter().all(|evidence| evidence.weight > 0.0)
        );
    }
}

#[tokio::test]
async fn embeddings_have_length_one_and_the_promised_size() {
    let server = TestServer::start(&[]).await;
    let info = server.client().await.get_model_info(v1::GetModelInfoRequest {}).await.unwrap().into_inner();
    for (_, article) in articles() {
        let analysis = tag(&server, text(&article), v1::TagOptions { include_embedding: true, ..options() }).await;
        let values = analysis.embedding.unwrap().values;
        assert_eq!(values.len(), info.embedding_size as usize);
        let length: f32 = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5);
    }
}

#[tokio::test]
async fn titles_have_offsets_of_their_own() {
    let server = TestServer::start(&[]).await;
    let document = v1::Document {
        title: "Angela Merkel visits Kyiv".to_owned(),
        text: "Angela Merkel met Volodymyr Zelensky in Kyiv.".to_owned(),
        ..v1::Document::default()
    };
    let analysis = tag(&server, document.clone(), options()).await;
    let mut fields = Vec::new();
    for entity in analysis.entities {
        let span = entity.span.unwrap();
        let field = if span.field() == v1::TextField::Title { &document.title } else { &document.text };
        assert_eq!(field[span.start as usize..span.end as usize], span.content);
        fields.push(span.field());
    }
    assert!(fields.contains(&v1::TextField::Title) && fields.contains(&v1::TextField::Text));
    assert!(fields.is_sorted());

    let title_only = v1::Document { title: "Angela Merkel visits Kyiv".to_owned(), ..v1::Document::default() };
    assert!(!tag(&server, title_only, options()).await.entities.is_empty());
}

#[tokio::test]
async fn the_callers_language_is_taken_over() {
    let server = TestServer::start(&[]).await;
    let document = v1::Document { language_code: "ckb-IQ".to_owned(), ..text("Rain in Basra.") };
    let language = tag(&server, document, options()).await.language.unwrap();
    assert_eq!((language.code.as_str(), language.detected), ("ckb-IQ", false));
    for (name, article) in articles() {
        let language = tag(&server, text(&article), options()).await.language.unwrap();
        assert_eq!(language.code, name.split('_').next().unwrap());
        assert!(language.detected);
    }
}

#[tokio::test]
async fn model_info_tells_labels_and_limits() {
    let server = TestServer::start(&["--max-batch-documents", "7", "--max-document-bytes", "5000"]).await;
    let info = server.client().await.get_model_info(v1::GetModelInfoRequest {}).await.unwrap().into_inner();
    let limits = info.limits.unwrap();
    assert_eq!((limits.max_batch_documents, limits.max_document_bytes), (7, 5000));
    assert_eq!((limits.max_window_tokens, limits.max_in_flight_documents), (128, 64));
    assert_eq!(info.topics.len(), 17);
    assert!(info.topics.iter().all(|topic| topic.iptc_code.starts_with("medtop:") && !topic.description.is_empty()));
    let types: Vec<_> = info.entity_types.iter().map(|kind| kind.r#type.as_str()).collect();
    assert_eq!(types, ["PER", "ORG", "LOC", "MISC"]);
    assert!(info.evaluated_languages.iter().any(|language| language == "ar"));
    assert_eq!((info.device.as_str(), info.dtype.as_str()), ("cpu", "f32"));
    assert_eq!(info.server_version, env!("CARGO_PKG_VERSION"));
}
