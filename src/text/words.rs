//! The words that entities are made of.

use unicode_script::{Script, UnicodeScript};
use unicode_segmentation::UnicodeSegmentation;

/// What a word is to the entity decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// Letters and digits between spaces or punctuation.
    Plain,
    /// A single character of a script written without spaces, where a token and not a space tells words apart.
    Unspaced,
    /// A punctuation mark or symbol: inside an entity perhaps, never at its edge.
    Punctuation,
    /// What an apostrophe attaches to a name ("Cairo's", "Ankara'da"): inside an entity perhaps ("People's Party"), never at its edge.
    Suffix,
}

/// A word: bytes of its field, half-open, on grapheme boundaries, free of white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// First byte.
    pub start: usize,
    /// First byte after.
    pub end: usize,
    /// What it is.
    pub kind: WordKind,
    /// Whether a line break stands between it and the word before: no entity reaches over one.
    pub starts_line: bool,
    /// Whether it begins with the letter that is "and" in Arabic and Hebrew, where that is written with the word behind it.
    pub conjoined: bool,
}

const CONJUNCTIONS: [char; 2] = ['و', 'ו'];

/// The words of a text, in order: what stands between spaces, punctuation apart. Hyphens, stops and apostrophes inside a word stay
/// in it ("al-Hakim", "U.S.", "O'Brien"), but an elided article does not ("l'Europe" is two words), nor does a suffix.
pub fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut graphemes = text.grapheme_indices(true).peekable();
    let mut starts_line = true;
    // Whether the next grapheme may still belong to the last word.
    let mut open = false;
    while let Some((start, grapheme)) = graphemes.next() {
        let end = start + grapheme.len();
        let next = graphemes.peek().map(|&(_, next)| next);
        let kind = match (classify(grapheme), words.last_mut()) {
            (Class::Space { line_break }, _) => {
                starts_line |= line_break;
                open = false;
                continue;
            }
            (Class::Invisible, _) => {
                open = false;
                continue;
            }
            (Class::Letter, Some(word)) if open => {
                word.end = end;
                continue;
            }
            (Class::Mark, Some(word)) if open && joins(&text[word.start..start], grapheme, next) => {
                if is_apostrophe(grapheme) && begins_suffix(&text[word.start..start], &text[end..]) {
                    words.push(Word { start, end, kind: WordKind::Suffix, starts_line: false, conjoined: false });
                    continue;
                }
                word.end = end;
                open = !is_elided(&text[word.start..end]);
                continue;
            }
            (Class::Letter, _) => WordKind::Plain,
            (Class::Unspaced, _) => WordKind::Unspaced,
            (Class::Mark, _) => WordKind::Punctuation,
        };
        let conjoined = grapheme.starts_with(CONJUNCTIONS);
        words.push(Word { start, end, kind, starts_line: std::mem::take(&mut starts_line), conjoined });
        open = kind == WordKind::Plain;
    }
    words
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Unspaced,
    Mark,
    Space { line_break: bool },
    Invisible,
}

/// The class of a grapheme is that of its first code point: what follows only modifies it.
fn classify(grapheme: &str) -> Class {
    let Some(first) = grapheme.chars().next() else {
        return Class::Invisible;
    };
    if first.is_whitespace() {
        return Class::Space { line_break: grapheme.contains('\n') };
    }
    if first.is_alphanumeric() {
        return if is_unspaced(first) { Class::Unspaced } else { Class::Letter };
    }
    // Direction marks, zero-width spaces and other controls.
    if first.is_control()
        || matches!(first, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    {
        return Class::Invisible;
    }
    Class::Mark
}

/// Scripts written without spaces between words.
fn is_unspaced(c: char) -> bool {
    use Script::{Han, Hiragana, Katakana, Khmer, Lao, Myanmar, Thai, Tibetan};
    let scripts = c.script_extension();
    !c.is_ascii()
        && c.script() != Script::Latin
        && [Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar, Tibetan]
            .iter()
            .any(|&script| scripts.contains_script(script) && !scripts.is_common())
}

/// Whether a mark belongs to the word before it.
fn joins(word: &str, mark: &str, next: Option<&str>) -> bool {
    let next_is_letter = next.is_some_and(|next| classify(next) == Class::Letter);
    match mark {
        "." => next_is_letter || is_initials(word),
        "-" | "\u{2010}" | "\u{2011}" | "_" | "&" | "@" | "·" | "־" | "׳" => next_is_letter,
        _ if is_apostrophe(mark) => next_is_letter,
        // Hebrew acronyms write a double quotation mark before their last letter.
        "\"" | "״" => next_is_letter && word.chars().next_back().is_some_and(|c| c.script() == Script::Hebrew),
        _ => false,
    }
}

fn is_apostrophe(mark: &str) -> bool {
    matches!(mark, "'" | "’" | "ʼ")
}

/// Turkish suffixes as they stand behind the apostrophe of a name: 97 in 100 of those in a million words of news.
const TURKISH_SUFFIXES: &str = " \
    a e ı i u ü ya ye yı yi yu yü na ne nı ni nu nü ın in un ün nın nin nun nün ını ini unu ünü ının inin unun ünün ına ine una üne \
    ında inde unda ünde da de ta te nda nde dan den tan ten ndan nden daki deki taki teki ndaki ndeki la le yla yle ca ce ça çe nca nce \
    dır dir dur dür tır tir tur tür dı di du dü tı ti ydı ydi ydu ydü lar ler ları leri ların lerin lara lere larda lerde lardan lerden \
    lı li lu lü lık lik luk lük sı si su sü sını sini sının sinin sında sinde sız siz ken yken ncı nci inci uncu üncü ";

/// Whether behind a name and an apostrophe begins a suffix that ends with the word: "'s", or a Turkish one, which takes a consonant
/// between two vowels (so that "Sana'a" is whole).
fn begins_suffix(name: &str, rest: &str) -> bool {
    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    let (suffix, behind) = rest.split_at(end);
    let is_name = name.starts_with(|c: char| c.is_uppercase() || c.is_numeric()) && name.chars().nth(1).is_some();
    let goes_on = behind.starts_with(['\'', '’', '-']);
    let is_vowel = |c: Option<char>| c.is_some_and(|c| "aeıioöuüAEIİOÖUÜ".contains(c));
    let hiatus = is_vowel(name.chars().next_back()) && is_vowel(suffix.chars().next());
    is_name
        && !goes_on
        && (suffix == "s" || !suffix.is_empty() && TURKISH_SUFFIXES.contains(&format!(" {suffix} ")) && !hiatus)
}

/// "J", "U.S": single capitals between stops.
fn is_initials(word: &str) -> bool {
    word.split('.').all(|part| {
        let mut letters = part.chars();
        letters.next().is_some_and(char::is_uppercase) && letters.next().is_none()
    })
}

/// "l'", "dell'", "D'": an article or preposition of the Romance languages that lost its vowel before the next word.
fn is_elided(word: &str) -> bool {
    let Some(stem) = word.strip_suffix(['\'', '’']) else {
        return false;
    };
    let is_particle = matches!(stem, "L" | "D") || stem.chars().count() <= 7 && stem.chars().all(char::is_lowercase);
    is_particle && stem.chars().all(|c| c.script() == Script::Latin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        words(text).into_iter().map(|word| &text[word.start..word.end]).collect()
    }

    #[test]
    fn separates_punctuation_and_keeps_what_belongs_together() {
        assert_eq!(split("«بغداد»، أربيل."), ["«", "بغداد", "»", "،", "أربيل", "."]);
        assert_eq!(split("Omar al-Hakim (U.S.), AT&T."), ["Omar", "al-Hakim", "(", "U.S.", ")", ",", "AT&T", "."]);
        assert_eq!(split("O'Brien N'Djamena Qur'an Sana'a"), ["O'Brien", "N'Djamena", "Qur'an", "Sana'a"]);
        assert_eq!(
            split("L'Europe, dell’Economia d'Italia"),
            ["L'", "Europe", ",", "dell’", "Economia", "d'", "Italia"]
        );
        assert_eq!(split("צה\"ל \"הארץ\""), ["צה\"ל", "\"", "הארץ", "\""]);
        assert_eq!(split("می‌شود"), ["می‌شود"]);
        assert_eq!(split("J. K. Rowe ran."), ["J.", "K.", "Rowe", "ran", "."]);
    }

    #[test]
    fn takes_suffixes_off_names() {
        let suffixes = |text: &str| {
            let words = words(text).into_iter().filter(|word| word.kind == WordKind::Suffix);
            words.map(|word| text[word.start..word.end].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(suffixes("Cairo's, Lee’s and the People's Party"), ["'s", "’s", "'s"]);
        assert_eq!(suffixes("Ankara'da AB’nin 1995'te Irak'a Türkiye'ninki"), ["'da", "’nin", "'te", "'a"]);
        assert_eq!(
            suffixes("Sana'a Shi'ite Ma'rib Ba'ath Qur'an O'Brien D'Ivoire Kam'yanets A's McDonald's-style let's"),
            Vec::<String>::new()
        );
        assert_eq!(split("Rome's."), ["Rome", "'s", "."]);
    }

    #[test]
    fn takes_unspaced_scripts_apart() {
        assert_eq!(split("東京でAB社"), ["東", "京", "で", "AB", "社"]);
        assert_eq!(split("データ"), ["デ", "ー", "タ"]);
        assert_eq!(words("กรุง").len(), 3);
        assert_eq!(split("서울에서"), ["서울에서"]);
    }

    #[test]
    fn stays_on_graphemes_and_marks_lines() {
        assert_eq!(split("e\u{301}a 👩‍👩‍👧x"), ["e\u{301}a", "👩‍👩‍👧", "x"]);
        assert_eq!(split("\u{200f}\u{202b}علي\u{202c}"), ["علي"]);
        let starts: Vec<_> = words("a b\n\nc").iter().map(|word| word.starts_line).collect();
        assert_eq!(starts, [true, false, true]);
    }
}
