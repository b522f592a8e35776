//! Offsets are exact in every unit: the slice of the field from start to end is the content, for any text in any script.

mod support;

use proptest::prelude::*;
use rasid::{
    proto::v1,
    tagger::{Analysis, TagOptions},
    text::{Document, OffsetMap, OffsetUnit, Span},
};
use support::{TestServer, tagger};
use unicode_segmentation::UnicodeSegmentation;

const UNITS: [OffsetUnit; 3] = [OffsetUnit::Utf8Byte, OffsetUnit::Utf16CodeUnit, OffsetUnit::CodePoint];

/// A field cut as a client would cut it that counts in `unit`.
fn slice(field: &str, unit: OffsetUnit, start: usize, end: usize) -> String {
    match unit {
        OffsetUnit::Utf8Byte => field[start..end].to_owned(),
        OffsetUnit::Utf16CodeUnit => String::from_utf16(&field.encode_utf16().collect::<Vec<_>>()[start..end]).unwrap(),
        OffsetUnit::CodePoint => field.chars().collect::<Vec<_>>()[start..end].iter().collect(),
    }
}

fn assert_exact(document: &Document, span: Span) {
    let content = document.slice(span);
    let field = document.field(span.field);
    assert!(!content.is_empty());
    assert_eq!(content.trim(), content, "white space at the edge");
    for edge in [span.start, span.end] {
        let on_grapheme = edge == field.len() || field.grapheme_indices(true).any(|(at, _)| at == edge);
        assert!(on_grapheme, "byte {edge} is inside a grapheme");
    }
    for unit in UNITS {
        let map = OffsetMap::new(field, unit, [span.start, span.end]);
        let (start, end) = (map.get(span.start).unwrap() as usize, map.get(span.end).unwrap() as usize);
        assert_eq!(slice(field, unit, start, end), content, "{unit:?}");
    }
}

fn analyse(document: &Document) -> Option<Analysis> {
    let plan = tagger().plan(&TagOptions { include_evidence: true, ..TagOptions::default() }).unwrap();
    tagger().tag(std::slice::from_ref(document), &plan).pop().unwrap().ok()
}

/// Pieces that make offsets go wrong, between names that the model finds.
fn piece() -> impl Strategy<Value = String> {
    let names = [
        "بغداد",
        "وزارة الدفاع",
        "جبار ياور،",
        "Angela Merkel",
        "L’Oréal",
        "東京",
        "国际奥委会",
        "서울에서",
        "नई दिल्ली।",
        "กรุงเทพฯ",
        "Київ",
        "ירושלים",
        "Αθήνα",
        "Ankara'da",
        "سلێمانی",
        "თბილისი",
        "Երևան",
        "አዲስ አበባ",
        "José Müller",
    ];
    let traps = [
        " ",
        "\n",
        "\r\n",
        "\t",
        "\u{a0}",
        "\u{3000}",
        "\u{200b}",
        "\u{200d}",
        "\u{200e}",
        "\u{200f}",
        "\u{202b}",
        "\u{202c}",
        "\u{2067}",
        "\u{feff}",
        "e\u{301}",
        "\u{301}",
        "🇮🇶",
        "👩‍👩‍👧",
        "❤️",
        "𝒳",
        "…",
        "ﷺ",
        "İ",
        "ß",
        "ﬁ",
        "\u{0}",
        "\u{10}",
        "\u{ad}",
        ".",
        ". ",
        "«",
        "»",
        "'",
        "-",
    ];
    prop_oneof![
        4 => prop::sample::select(names.to_vec()).prop_map(str::to_owned),
        3 => prop::sample::select(traps.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,12}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn entities_and_evidence_are_exact_in_any_text(title in text(), body in text()) {
        let document = Document { title, text: body, ..Document::default() };
        let Some(analysis) = analyse(&document) else {
            return Ok(());
        };
        let mut before = None;
        for entity in &analysis.entities {
            assert_exact(&document, entity.span);
            let place = (entity.span.field, entity.span.start);
            prop_assert!(before.is_none_or(|before| before <= place), "entities overlap or are out of order");
            before = Some((entity.span.field, entity.span.end));
        }
        for evidence in &analysis.evidence {
            let content = document.slice(evidence.span);
            prop_assert_eq!(content.trim(), content);
            prop_assert!(!content.is_empty());
        }
    }

    #[test]
    fn tokens_stand_for_text_on_code_point_boundaries(title in text(), body in text()) {
        let document = Document { title, text: body, ..Document::default() };
        let tokenized = tagger().tokenizer().tokenize(&document).unwrap();
        let mut next = 0;
        for sentence in &tokenized.sentences {
            prop_assert_eq!(sentence.tokens.start, next);
            next = sentence.tokens.end;
            for token in &tokenized.tokens[sentence.tokens.clone()] {
                let bytes = document.field(sentence.field).get(token.start as usize..token.end as usize);
                prop_assert!(bytes.is_some_and(|bytes| !bytes.starts_with(char::is_whitespace)));
            }
        }
        prop_assert_eq!(next, tokenized.tokens.len());
    }

    #[test]
    fn every_offset_is_translated_exactly(body in text(), unit in prop::sample::select(UNITS.to_vec())) {
        let bytes: Vec<usize> = body.char_indices().map(|(at, _)| at).chain([body.len()]).collect();
        let map = OffsetMap::new(&body, unit, bytes.iter().rev().copied());
        for pair in bytes.windows(2) {
            let (start, end) = (map.get(pair[0]).unwrap() as usize, map.get(pair[1]).unwrap() as usize);
            prop_assert_eq!(slice(&body, unit, start, end), &body[pair[0]..pair[1]]);
        }
    }
}

#[tokio::test]
async fn the_unit_that_was_asked_for_is_answered_and_echoed() {
    let server = TestServer::start(&[]).await;
    let client = &mut server.client().await;
    let document = v1::Document {
        title: "🇮🇶 بغداد: Angela Merkel in Kyiv".to_owned(),
        text: "👩‍👩‍👧 Volodymyr Zelensky met e\u{301}mile Müller in 東京.".to_owned(),
        ..v1::Document::default()
    };
    let units = [
        (v1::OffsetUnit::Unspecified, v1::OffsetUnit::UnicodeCodePoint, OffsetUnit::CodePoint),
        (v1::OffsetUnit::UnicodeCodePoint, v1::OffsetUnit::UnicodeCodePoint, OffsetUnit::CodePoint),
        (v1::OffsetUnit::Utf8Byte, v1::OffsetUnit::Utf8Byte, OffsetUnit::Utf8Byte),
        (v1::OffsetUnit::Utf16CodeUnit, v1::OffsetUnit::Utf16CodeUnit, OffsetUnit::Utf16CodeUnit),
    ];
    for (asked, echoed, unit) in units {
        let options = v1::TagOptions { offset_unit: asked.into(), ..v1::TagOptions::default() };
        let request = v1::TagRequest { document: Some(document.clone()), options: Some(options) };
        let analysis = client.tag(request).await.unwrap().into_inner().analysis.unwrap();
        assert_eq!(analysis.offset_unit(), echoed);
        let mut fields = Vec::new();
        for entity in &analysis.entities {
            let span = entity.span.as_ref().unwrap();
            let field = match span.field() {
                v1::TextField::Title => &document.title,
                v1::TextField::Text => &document.text,
                v1::TextField::Unspecified => panic!("no field"),
            };
            assert_eq!(slice(field, unit, span.start as usize, span.end as usize), span.content);
            fields.push(span.field());
        }
        assert!(fields.contains(&v1::TextField::Title) && fields.contains(&v1::TextField::Text));
    }
}
