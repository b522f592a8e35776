//! Documents of all sizes, made of the example articles.

use fastrand::Rng;
use rasid::proto::v1;

const ARTICLES: [&str; 4] = [
    include_str!("../articles/ar_security_meeting.txt"),
    include_str!("../articles/en_port_strike.txt"),
    include_str!("../articles/fa_vaccination.txt"),
    include_str!("../articles/tr_yerel_secim.txt"),
];

/// A headline, a brief, an article, a long read or, seldom, a whole report; `id` comes back in the answer.
pub fn document(rng: &mut Rng, id: u64) -> v1::Document {
    let words = match rng.u32(0..1000) {
        0..400 => 12,
        400..700 => 60,
        700..950 => 250,
        950..998 => 1200,
        _ => 8000,
    };
    of_words(rng, id, words)
}

/// A headline.
pub fn headline(rng: &mut Rng, id: u64) -> v1::Document {
    of_words(rng, id, 12)
}

fn of_words(rng: &mut Rng, id: u64, words: usize) -> v1::Document {
    let article = rng.choice(ARTICLES).unwrap_or_default();
    let start = rng.usize(0..40);
    let mut text = String::new();
    for word in article.split_whitespace().cycle().skip(start).take(words) {
        text.push_str(word);
        text.push(' ');
    }
    v1::Document { id: id.to_string(), text, ..v1::Document::default() }
}

/// A document that has no analysis.
pub fn bad(id: u64) -> v1::Document {
    v1::Document { id: id.to_string(), text: "  \n ".to_owned(), ..v1::Document::default() }
}

/// About how many tokens it has.
pub fn tokens(document: &v1::Document) -> f64 {
    document.text.len() as f64 / 5.0
}
