//! Natural text from the tokens of an annotated sentence, since the model reads what newspapers print.
//!
//! Where a row says `space_after`, that holds. Where tokens are characters ([`Spacing::Joined`]), nothing stands between them. Else a
//! space stands between two tokens unless the first holds on to what follows or the second to what goes before. The first of these
//! rules that fits a token says which (`L` holds on to the left, `R` to the right, `LR` both, `-` neither). "Closing" is a token all of
//! whose characters are in [`CLOSING`]; "digits" a token that begins and ends with one; languages are BCP 47 tags.
//!
//! 1. The straight quotes `"`, ` `` `, `''` and `""""` are written `"`. ` `` ` opens (R). The others close (L) if one is open; close too
//!    (L), though none is open, behind the first token and before a closing token or the end; else open (R).
//! 2. A lone `'`: as rule 1 (counted apart); before opening, it is L in en and pcm if the token before ends with `s`.
//! 3. `«` and `»` in fr: -. Elsewhere `«` closes (L) if a reversed `»` is open, else opens (R); `»` closes (L) if `«` is open; in da and de it
//!    opens (R) if none is open and no closing token or end follows; else L.
//! 4. `„` and `‚` open (R). `“` closes (L) if `„` is open and `‘` if `‚` is, else they open (R). `”`: in fi and sv it opens (R) if none is open and
//!    no closing token or end follows; else it closes (L).
//! 5. Behind a token that ends with a letter or digit: English clitics (`'s 'm 're 'll 've 'd n't`, with `'` or `’`, any case) L; in tr, `'` or
//!    `’` and then letters, the first of them small, L.
//! 6. In ca, es, fr, it, oc, pt and yo, letters and then `'` or `’`: R; but `po'` and `e'` of it: -.
//! 7. `$ £ € ¥ ₹ ₦ # @` before a token that begins with a letter or digit (currencies: with a digit): R, and `$` behind one of
//!    `A C HK NZ R US`: LR. Else -.
//! 8. `% ‰ ٪ °` behind a token that ends with a digit: L; but `%` and `‰` in cs, da, de, fi, fr, lv, nb, nn, no, sk, sv: -.
//! 9. `/` and `־` between two tokens: LR.
//! 10. Between two digits: `-`, `–`, `.` and `:` LR; `,` LR if before it stand one to three characters and behind it three, digits all.
//! 11. `-` in ha, he, hi, ig, lg, ne, pcm, rw, sn, sw, ur, wo, xh, yo and zu, whose corpora set hyphens apart, behind a token that ends with
//!     a letter or digit and before one that begins so: LR.
//! 12. `&` between two single capitals: LR.
//! 13. All characters in [`OPENING`]: R. Closing: L, but in fr - if `;`, `:`, `!` or `?` is among them.
//! 14. Anything else: -.
//!
//! `tests/data/detokenize.json` holds examples that every implementation of these rules must meet.

use std::ops::Range;

/// Marks that no space follows.
pub const OPENING: &str = "([{（「『【《〈〔¿¡“‘„‚«‹";

/// Marks that no space goes before.
pub const CLOSING: &str = ".,;:!?…)]}）」』】》〉〕”’»›。、，．：；！？،؛؟۔।॥።፣፤፥፦፧";

const ELIDING: [&str; 7] = ["ca", "es", "fr", "it", "oc", "pt", "yo"];
const HYPHEN_APART: [&str; 15] =
    ["ha", "he", "hi", "ig", "lg", "ne", "pcm", "rw", "sn", "sw", "ur", "wo", "xh", "yo", "zu"];
const PERCENT_APART: [&str; 11] = ["cs", "da", "de", "fi", "fr", "lv", "nb", "nn", "no", "sk", "sv"];
const CLITICS: [&str; 7] = ["'s", "'m", "'re", "'ll", "'ve", "'d", "n't"];
const DOLLARS: [&str; 6] = ["A", "C", "HK", "NZ", "R", "US"];

/// What is known of the spaces between tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing<'a> {
    /// Whether a space follows each token; the last does not matter.
    Given(&'a [bool]),
    /// Tokens are words: spaces stand where the language's rules want them.
    Words,
    /// Tokens are characters, or words of a language written without spaces.
    Joined,
}

/// A text and where in it each token stands, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NaturalText {
    /// The text.
    pub text: String,
    /// By token; they follow one another.
    pub tokens: Vec<Range<usize>>,
}

/// Puts a text together from its tokens.
pub fn natural_text<T: AsRef<str>>(tokens: &[T], language: &str, spacing: Spacing<'_>) -> NaturalText {
    let tokens: Vec<&str> = tokens.iter().map(AsRef::as_ref).collect();
    let holds = match spacing {
        Spacing::Words => holds(&tokens, language),
        Spacing::Given(_) | Spacing::Joined => Vec::new(),
    };
    let mut natural = NaturalText::default();
    for (index, token) in tokens.iter().enumerate() {
        let space = match spacing {
            _ if index == 0 => false,
            Spacing::Given(spaces) => spaces.get(index - 1).copied().unwrap_or(true),
            Spacing::Words => !holds[index - 1].right && !holds[index].left,
            Spacing::Joined => false,
        };
        if space {
            natural.text.push(' ');
        }
        let start = natural.text.len();
        natural.text.push_str(if spacing == Spacing::Words { written(token) } else { token });
        natural.tokens.push(start..natural.text.len());
    }
    natural
}

/// To which sides a token holds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    left: bool,
    right: bool,
}

const NEITHER: Hold = Hold { left: false, right: false };
const LEFT: Hold = Hold { left: true, right: false };
const RIGHT: Hold = Hold { left: false, right: true };
const BOTH: Hold = Hold { left: true, right: true };

/// Rule 1: how corpora of other habits write a double quote.
fn written(token: &str) -> &str {
    if matches!(token, "``" | "''" | "\"\"\"\"") { "\"" } else { token }
}

fn holds(tokens: &[&str], language: &str) -> Vec<Hold> {
    let mut quotes = Quotes::default();
    let mut holds = Vec::with_capacity(tokens.len());
    for (index, &token) in tokens.iter().enumerate() {
        let place = Place {
            token,
            before: index.checked_sub(1).and_then(|before| tokens.get(before)).copied().unwrap_or_default(),
            after: tokens.get(index + 1).copied().unwrap_or_default(),
            language,
        };
        holds.push(quotes.hold(&place).unwrap_or_else(|| place.hold()));
    }
    holds
}

/// A token between its neighbours, which are empty at the edges.
struct Place<'a> {
    token: &'a str,
    before: &'a str,
    after: &'a str,
    language: &'a str,
}

/// Which quotation marks are open.
#[derive(Debug, Default)]
struct Quotes {
    double: bool,
    single: bool,
    guillemet: Option<char>,
    low_double: bool,
    low_single: bool,
    raised: bool,
}

impl Quotes {
    /// Rules 1 to 4.
    fn hold(&mut self, place: &Place<'_>) -> Option<Hold> {
        let Place { token, before, language, .. } = *place;
        let first = before.is_empty();
        let ends = place.ends();
        Some(match token {
            "``" => open(&mut self.double),
            _ if written(token) == "\"" => straight(&mut self.double, !first && ends),
            "'" => {
                let possessive = matches!(language, "en" | "pcm") && before.ends_with(['s', 'S']);
                straight(&mut self.single, !first && (ends || possessive))
            }
            "«" | "»" if language == "fr" => NEITHER,
            "«" if self.guillemet == Some('»') => self.close_guillemet(),
            "«" => self.open_guillemet('«'),
            "»" if self.guillemet.is_none() && matches!(language, "da" | "de") && !ends => self.open_guillemet('»'),
            "»" => self.close_guillemet(),
            "„" => open(&mut self.low_double),
            "‚" => open(&mut self.low_single),
            "“" => close_or_open(&mut self.low_double),
            "‘" => close_or_open(&mut self.low_single),
            "”" if !self.raised && matches!(language, "fi" | "sv") && !ends => open(&mut self.raised),
            "”" => close(&mut self.raised),
            _ => return None,
        })
    }

    fn open_guillemet(&mut self, mark: char) -> Hold {
        self.guillemet = Some(mark);
        RIGHT
    }

    fn close_guillemet(&mut self) -> Hold {
        self.guillemet = None;
        LEFT
    }
}

fn open(state: &mut bool) -> Hold {
    *state = true;
    RIGHT
}

fn close(state: &mut bool) -> Hold {
    *state = false;
    LEFT
}

/// A mark that is the same on both sides; `closes` if it cannot open.
fn straight(state: &mut bool, closes: bool) -> Hold {
    if *state || closes { close(state) } else { open(state) }
}

/// A mark that closes what a low one opened, and opens by itself.
fn close_or_open(low: &mut bool) -> Hold {
    if *low { close(low) } else { RIGHT }
}

impl Place<'_> {
    /// Rules 5 to 14.
    fn hold(&self) -> Hold {
        let Self { token, before, after, language } = *self;
        let inside = !before.is_empty() && !after.is_empty();
        match token {
            _ if self.is_clitic() => LEFT,
            _ if self.is_elided() => RIGHT,
            "$" if DOLLARS.contains(&before) && starts_with_digit(after) => BOTH,
            "$" | "£" | "€" | "¥" | "₹" | "₦" => if_so(starts_with_digit(after), RIGHT),
            "#" | "@" => if_so(after.starts_with(char::is_alphanumeric), RIGHT),
            "%" | "‰" if PERCENT_APART.contains(&language) => NEITHER,
            "%" | "‰" | "٪" | "°" => if_so(ends_with_digit(before), LEFT),
            "/" | "־" => if_so(inside, BOTH),
            "-" | "–" | "." | ":" if is_digits(before) && is_digits(after) => BOTH,
            "," if self.groups_thousands() => BOTH,
            "-" if HYPHEN_APART.contains(&language) => {
                if_so(before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric), BOTH)
            }
            "&" => if_so(is_capital(before) && is_capital(after), BOTH),
            _ if all_in(token, OPENING) => RIGHT,
            _ if all_in(token, CLOSING) => if_so(language != "fr" || !token.contains([';', ':', '!', '?']), LEFT),
            _ => NEITHER,
        }
    }

    /// Whether a sentence's or clause's end follows, before which no quotation opens.
    fn ends(&self) -> bool {
        self.after.is_empty() || all_in(self.after, CLOSING)
    }

    fn is_clitic(&self) -> bool {
        let plain = self.token.to_lowercase().replace('’', "'");
        let suffix = plain.strip_prefix('\'').unwrap_or_default();
        let turkish = self.language == "tr"
            && !suffix.is_empty()
            && suffix.chars().all(char::is_alphabetic)
            && self.token.chars().nth(1).is_some_and(char::is_lowercase);
        self.before.ends_with(char::is_alphanumeric) && (CLITICS.contains(&plain.as_str()) || turkish)
    }

    fn is_elided(&self) -> bool {
        let Some(stem) = self.token.strip_suffix(['\'', '’']) else { return false };
        let accent = self.language == "it" && matches!(stem, "po" | "Po" | "e" | "E");
        ELIDING.contains(&self.language) && !stem.is_empty() && stem.chars().all(char::is_alphabetic) && !accent
    }

    fn groups_thousands(&self) -> bool {
        let digits = |token: &str| token.chars().all(char::is_numeric);
        let (before, after) = (self.before, self.after);
        digits(before) && digits(after) && (1..=3).contains(&before.chars().count()) && after.chars().count() == 3
    }
}

fn if_so(condition: bool, hold: Hold) -> Hold {
    if condition { hold } else { NEITHER }
}

fn all_in(token: &str, marks: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| marks.contains(c))
}

fn starts_with_digit(token: &str) -> bool {
    token.starts_with(char::is_numeric)
}

fn ends_with_digit(token: &str) -> bool {
    token.ends_with(char::is_numeric)
}

fn is_digits(token: &str) -> bool {
    starts_with_digit(token) && ends_with_digit(token)
}

fn is_capital(token: &str) -> bool {
    let mut chars = token.chars();
    chars.next().is_some_and(char::is_uppercase) && chars.next().is_none()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        language: String,
        tokens: Vec<String>,
        space_after: Option<Vec<bool>>,
        #[serde(default = "space")]
        join: String,
        text: String,
    }

    fn space() -> String {
        " ".to_owned()
    }

    #[test]
    fn meets_the_shared_examples() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/data/detokenize.json")).unwrap();
        assert!(cases.len() > 30);
        for case in cases {
            let spacing = match &case.space_after {
                Some(spaces) => Spacing::Given(spaces),
                None if case.join.is_empty() => Spacing::Joined,
                None => Spacing::Words,
            };
            let NaturalText { text, tokens } = natural_text(&case.tokens, &case.language, spacing);
            assert_eq!(text, case.text, "{}", case.language);
            assert_eq!(tokens.len(), case.tokens.len());
            let mut end = 0;
            for (range, token) in tokens.into_iter().zip(&case.tokens) {
                assert!(matches!(&text[end..range.start], "" | " "));
                assert!(text[range.clone()] == **token || written(token) == &text[range.clone()]);
                end = range.end;
            }
        }
    }
}
