//! Where sentences and pieces for the tokeniser begin.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Longest piece given to the tokeniser at once, in bytes: its time grows faster than its input, a bound keeps ours linear.
pub const MAX_PIECE_BYTES: usize = 4096;

/// Sentences of a text as byte ranges that follow one another and cover it, trailing white space included.
///
/// Boundaries are those of Unicode Standard Annex 29, which knows the full stops of Arabic, Devanagari, CJK and others, within
/// lines, a line being a paragraph; but none after an abbreviation, as CLDR's suppressions do it: a wrong boundary
/// could tear a name ("Gen. Smith") between two windows.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut sentences: Vec<Range<usize>> = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let mut goes_on = false;
        for (start, sentence) in line.split_sentence_bound_indices() {
            let range = line_start + start..line_start + start + sentence.len();
            match sentences.last_mut() {
                Some(last) if goes_on => last.end = range.end,
                _ => sentences.push(range),
            }
            goes_on = ends_in_abbreviation(sentence);
        }
        line_start += line.len();
    }
    sentences
}

/// Whether a sentence ends in an initial ("J.", "U.S.") or a title ("Gen.").
fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(stem) = sentence.trim_end().strip_suffix('.') else {
        return false;
    };
    let word = stem.rsplit(|c: char| c.is_whitespace() || c == '.').next().unwrap_or_default();
    let mut letters = word.chars();
    let is_initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    is_initial || is_title(word)
}

/// Titles before names that end in a stop.
fn is_title(word: &str) -> bool {
    const TITLES: [&str; 24] = [
        "Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Gen", "Col", "Maj", "Capt", "Lt", "Sgt", "Sen", "Rep", "Gov", "Hon",
        "Rev", "Fr", "Mme", "Mlle", "Sra", "Sr", "Jr", "No",
    ];
    TITLES.contains(&word)
}

/// A range of a text without the white space at its ends.
pub fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let whole = &text[range.clone()];
    let start = range.start + whole.len() - whole.trim_start().len();
    start..start + whole.trim().len()
}

/// Pieces of a text for the tokeniser, as byte ranges that follow one another and cover it: whole lines where they are short
/// enough, else whole sentences, else cut at white space or, failing that, between graphemes. `sentences` is what [`sentences`]
/// found in `text`.
pub fn pieces(text: &str, sentences: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for sentence in sentences {
        if sentence.len() > MAX_PIECE_BYTES {
            cut_long(text, sentence.clone(), &mut pieces);
            continue;
        }
        match pieces.last_mut() {
            Some(piece) if sentence.end - piece.start <= MAX_PIECE_BYTES && !text[piece.clone()].ends_with('\n') => {
                piece.end = sentence.end;
            }
            _ => pieces.push(sentence.clone()),
        }
    }
    pieces
}

fn cut_long(text: &str, mut rest: Range<usize>, pieces: &mut Vec<Range<usize>>) {
    while rest.len() > MAX_PIECE_BYTES {
        let window = &text[rest.start..text.floor_char_boundary(rest.start + MAX_PIECE_BYTES)];
        let at_space = window.rfind(char::is_whitespace).filter(|&at| at > 0);
        let cut = at_space.or_else(|| window.grapheme_indices(true).next_back().map(|(at, _)| at).filter(|&at| at > 0));
        // A single grapheme longer than a piece (thousands of combining marks) is cut between code points.
        let end = rest.start + cut.unwrap_or(window.len());
        pieces.push(rest.start..end);
        rest.start = end;
    }
    pieces.push(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|range| text[range].trim()).collect()
    }

    #[test]
    fn ends_sentences_in_many_scripts() {
        assert_eq!(split("وصل الوفد؟ نعم. ثم غادر!"), ["وصل الوفد؟", "نعم.", "ثم غادر!"]);
        assert_eq!(split("یہ پہلا جملہ ہے۔ یہ دوسرا ہے۔"), ["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"]);
        assert_eq!(split("यह पहला है। यह दूसरा है।"), ["यह पहला है।", "यह दूसरा है।"]);
        assert_eq!(split("衛星を打ち上げた。成功だ！次は？"), ["衛星を打ち上げた。", "成功だ！", "次は？"]);
        assert_eq!(split("It rained. Why? Nobody knew!"), ["It rained.", "Why?", "Nobody knew!"]);
        assert_eq!(split("ዝናብ ዘነበ። ማንም አላወቀም።"), ["ዝናብ ዘነበ።", "ማንም አላወቀም።"]);
    }

    #[test]
    fn keeps_abbreviations_and_numbers_whole() {
        assert_eq!(
            split("Gen. Smith met Dr. J. K. Rowe. They left."),
            ["Gen. Smith met Dr. J. K. Rowe.", "They left."]
        );
        assert_eq!(split("The U.S. Army paid 3.5 million. Fine."), ["The U.S. Army paid 3.5 million.", "Fine."]);
        assert_eq!(split("He met Amina Said. Then he left."), ["He met Amina Said.", "Then he left."]);
    }

    #[test]
    fn a_line_ends_a_sentence() {
        assert_eq!(split("No stop here\nNext line"), ["No stop here", "Next line"]);
    }

    #[test]
    fn pieces_are_bounded_whatever_the_text() {
        for text in [
            "a".repeat(50_000),
            "ab ".repeat(20_000),
            "漢".repeat(30_000),
            "e\u{301}".repeat(30_000),
            "\n".repeat(9_000),
        ] {
            let ranges = pieces(&text, &sentences(&text));
            assert!(ranges.iter().all(|range| range.len() <= MAX_PIECE_BYTES));
            assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
        }
    }
}
