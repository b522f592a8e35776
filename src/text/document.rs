//! Documents and places in them.

/// One news article.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The caller's identifier.
    pub id: String,
    /// Headline.
    pub title: String,
    /// Body.
    pub text: String,
    /// BCP 47 tag, empty if the caller does not know it.
    pub language_code: String,
}

/// A field of a document that holds text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// [`Document::title`].
    Title,
    /// [`Document::text`].
    Text,
}

impl Field {
    /// Both, in reading order.
    pub const ALL: [Field; 2] = [Field::Title, Field::Text];
}

/// A stretch of a field: UTF-8 bytes, half-open, on code point boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The field that the offsets point into.
    pub field: Field,
    /// First byte inside.
    pub start: usize,
    /// First byte after.
    pub end: usize,
}

impl Document {
    /// The text of a field.
    pub fn field(&self, field: Field) -> &str {
        match field {
            Field::Title => &self.title,
            Field::Text => &self.text,
        }
    }

    /// The text of a span; empty if the span is not one of this document.
    pub fn slice(&self, span: Span) -> &str {
        self.field(span.field).get(span.start..span.end).unwrap_or_default()
    }

    /// UTF-8 bytes of title and text.
    pub fn bytes(&self) -> usize {
        self.title.len() + self.text.len()
    }

    /// Whether title and text hold nothing but white space.
    pub fn is_blank(&self) -> bool {
        Field::ALL.iter().all(|&field| self.field(field).trim().is_empty())
    }
}
