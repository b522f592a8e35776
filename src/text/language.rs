//! Which language a text is in.

use whatlang::Lang;

/// A detected language.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectedLanguage {
    /// BCP 47 tag; `und` if the language is none that the detector knows.
    pub code: &'static str,
    /// The detector's confidence in [0, 1]; not a calibrated probability.
    pub confidence: f32,
}

/// How much of a text is looked at, in code points.
const SAMPLE: usize = 2000;

/// Below this the detector's best guess is a guess among neighbours.
const MIN_CONFIDENCE: f64 = 0.1;

/// The language of a text, by its script and trigrams (whatlang). `None` if it has no letters.
pub fn detect(text: &str) -> Option<DetectedLanguage> {
    let end = text.char_indices().nth(SAMPLE).map_or(text.len(), |(at, _)| at);
    let sample = &text[..end];
    if is_sorani(sample) {
        return Some(DetectedLanguage { code: "ckb", confidence: 1.0 });
    }
    let info = whatlang::detect(sample)?;
    let code = if info.confidence() < MIN_CONFIDENCE { "und" } else { bcp47(info.lang()) };
    Some(DetectedLanguage { code, confidence: info.confidence() as f32 })
}

/// Whether a text is Sorani Kurdish, which whatlang does not know and takes for Persian or Urdu: the letters ڕ ڵ ۆ ێ are its
/// own among the languages of the Arabic script that newspapers use, and make up more than one letter in fifty.
fn is_sorani(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let own = text.chars().filter(|c| matches!(c, 'ڕ' | 'ڵ' | 'ۆ' | 'ێ')).count();
    own >= 2 && own * 50 > letters
}

/// BCP 47 prefers the two-letter code of ISO 639-1 where there is one, and the macrolanguage in common use.
fn bcp47(language: Lang) -> &'static str {
    match language.code() {
        "cmn" => "zh",
        "pes" => "fa",
        code => isolang::Language::from_639_3(code).and_then(|language| language.to_639_1()).unwrap_or(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_tag() {
        for &language in Lang::all() {
            assert!(matches!(bcp47(language).len(), 2 | 3), "{language:?}");
        }
        assert_eq!(bcp47(Lang::Ara), "ar");
        assert_eq!(bcp47(Lang::Pes), "fa");
    }

    #[test]
    fn tells_neighbours_in_arabic_script_apart() {
        let code = |text| detect(text).map(|language| language.code);
        assert_eq!(code("عقدت وزارة الدفاع اجتماعا أمنيا في بغداد لبحث الأوضاع على الحدود."), Some("ar"));
        assert_eq!(
            code("پەرلەمانی کوردستان کۆبوونەوەیەکی تایبەتی لەسەر بودجەی ساڵی داهاتوو ئەنجام دەدات."),
            Some("ckb")
        );
        assert_eq!(code("وزارت بهداشت اعلام کرد که برنامه واکسیناسیون از هفته آینده آغاز می‌شود."), Some("fa"));
    }

    #[test]
    fn says_nothing_of_what_has_no_letters() {
        assert_eq!(detect(""), None);
        assert_eq!(detect(" 12:30 — 4.5 🙂\n"), None);
    }
}
