//! A document of any length within the limit is read whole.

mod support;

use std::time::Instant;

use rasid::{
    tagger::{Feature, TagOptions},
    text::Document,
};
use support::{arabic_article, tagger};

#[test]
fn every_token_of_a_mebibyte_is_in_a_window() {
    let plan = tagger().plan(&TagOptions::default()).unwrap();
    let article = arabic_article();
    let texts = [
        article.repeat((1 << 20) / article.len()),
        "x".repeat(1 << 20),
        "漢".repeat((1 << 20) / 3),
        "\u{301}".repeat((1 << 20) / 2),
        "a ".repeat(1 << 19),
        "a.\n".repeat((1 << 20) / 3),
        "Mr. ".repeat(1 << 18),
        "1. ".repeat((1 << 20) / 3),
    ];
    for text in texts {
        let document = Document { text, ..Document::default() };
        let started = Instant::now();
        let reading = tagger().read(&document, &plan).unwrap();
        let mut next = 0;
        for window in reading.windows() {
            assert_eq!(window.owned.start, next);
            assert!(window.tokens.len() <= 126);
            next = window.owned.end;
        }
        let start: String = document.text.chars().take(4).collect();
        println!("{:?}…: {next} tokens in {} windows, {:?}", start, reading.windows().len(), started.elapsed());
        assert!(next > 10_000 || reading.windows().len() == 1 || document.text.starts_with(['x', '\u{301}']));
        // Superlinear reading would take minutes.
        assert!(started.elapsed().as_secs() < 60);
    }
}

#[test]
fn a_name_at_a_window_border_comes_out_once_and_whole() {
    let plan = tagger().plan(&TagOptions { features: [Feature::Entities].into(), ..TagOptions::default() }).unwrap();
    // One sentence far longer than a window, so that windows overlap and borders fall on names.
    let names = "Angela Merkel, Keir Starmer, Emmanuel Macron, Mario Draghi, ";
    let document =
        Document { text: format!("The guests were {} and others.", names.repeat(20)), ..Document::default() };
    let analysis = tagger().tag(std::slice::from_ref(&document), &plan).pop().unwrap().unwrap();
    assert!(analysis.coverage.windows > 2);
    let found: Vec<&str> = analysis.entities.iter().map(|entity| document.slice(entity.span)).collect();
    let expected: Vec<&str> = names.split(", ").filter(|name| !name.is_empty()).collect();
    let whole = found.iter().filter(|name| expected.contains(name)).count();
    println!("{whole} of 80 names whole, {} spans", found.len());
    assert_eq!(found.len(), 80);
    assert_eq!(whole, 80);
}
