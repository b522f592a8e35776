//! A document's answer depends on that document alone: the same alone, in any batch, next to any neighbour.

mod support;

use std::fmt::Debug;

use rasid::{
    tagger::{Analysis, TagOptions, TaggerConfig},
    text::Document,
};

fn documents() -> Vec<Document> {
    let articles = support::articles();
    let lines = articles.iter().flat_map(|(_, body)| body.lines().map(str::to_owned).collect::<Vec<_>>());
    let whole = articles.iter().map(|(_, body)| body.clone());
    let texts: Vec<String> = whole.chain(lines).filter(|text| !text.trim().is_empty()).collect();
    texts.into_iter().cycle().take(64).map(|text| Document { text, ..Document::default() }).collect()
}

#[test]
fn alone_and_among_64_mixed_documents_the_answer_is_the_same() {
    let tagger = support::tagger();
    let options = TagOptions { include_all_scores: true, include_embedding: true, ..TagOptions::default() };
    let plan = tagger.plan(&options).unwrap();
    let documents = documents();
    assert_eq!(documents.len(), 64);
    let together = tagger.tag(&documents, &plan);
    let mut worst = 0.0_f32;
    for (document, together) in documents.iter().zip(together) {
        let together = together.unwrap();
        let alone = tagger.tag(std::slice::from_ref(document), &plan).pop().unwrap().unwrap();
        assert_eq!(spans(&alone), spans(&together));
        let numbers = |analysis: Analysis| -> Vec<f32> {
            let mut topics = analysis.topics;
            topics.sort_by_key(|score| score.topic);
            let topics = topics.into_iter().map(|score| score.probability);
            topics
                .chain(analysis.entities.into_iter().map(|entity| entity.probability))
                .chain(analysis.embedding.unwrap())
                .collect()
        };
        for (a, b) in numbers(alone).into_iter().zip(numbers(together)) {
            worst = worst.max((a - b).abs());
        }
    }
    println!("largest difference {worst:.2e}");
    assert!(worst <= 1e-5, "differs by {worst}");
}

#[test]
fn the_size_of_batches_does_not_matter() {
    let document = Document { text: support::arabic_article(), ..Document::default() };
    let answers = [64, 300, 4096].map(|batch_tokens| {
        let tagger = support::load_tagger(TaggerConfig { batch_tokens, ..TaggerConfig::default() });
        let plan = tagger.plan(&TagOptions { include_all_scores: true, ..TagOptions::default() }).unwrap();
        tagger.tag(std::slice::from_ref(&document), &plan).pop().unwrap().unwrap()
    });
    assert_same(&answers);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let tagger = support::tagger();
    let plan = tagger.plan(&TagOptions { include_all_scores: true, ..TagOptions::default() }).unwrap();
    let document = Document { text: support::arabic_article(), ..Document::default() };
    let answers = [1, 2, 3, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| tagger.tag(std::slice::from_ref(&document), &plan)).pop().unwrap().unwrap()
    });
    assert_same(&answers);
}

fn spans(analysis: &Analysis) -> Vec<impl PartialEq + Debug> {
    analysis.entities.iter().map(|entity| (entity.kind, entity.span)).collect()
}

fn assert_same(answers: &[Analysis]) {
    let [first, rest @ ..] = answers else { panic!("nothing to compare") };
    for other in rest {
        assert_eq!(spans(first), spans(other));
        for (a, b) in first.topics.iter().zip(&other.topics) {
            assert_eq!(a.topic, b.topic);
            assert!((a.probability - b.probability).abs() <= 1e-5);
        }
        for (a, b) in first.entities.iter().zip(&other.entities) {
            assert!((a.probability - b.probability).abs() <= 1e-5);
        }
    }
}
