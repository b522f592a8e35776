//! Offsets in the unit a caller counts in.

/// What one step of an offset counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OffsetUnit {
    /// Bytes of UTF-8.
    Utf8Byte,
    /// UTF-16 code units.
    Utf16CodeUnit,
    /// Unicode code points.
    #[default]
    CodePoint,
}

/// Translates byte offsets of one text into a unit, in one pass over the text.
#[derive(Debug)]
pub struct OffsetMap {
    /// Byte offset and its translation, by rising byte offset.
    offsets: Vec<(usize, u32)>,
}

impl OffsetMap {
    /// Translates these byte offsets of `text`. They may come in any order; one that is not on a code point boundary or lies
    /// behind the end is moved back to the nearest that does.
    pub fn new(text: &str, unit: OffsetUnit, bytes: impl IntoIterator<Item = usize>) -> Self {
        let mut wanted: Vec<usize> = bytes.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (mut position, mut count) = (0, 0);
        let translate = |byte| {
            let boundary = text.floor_char_boundary(byte);
            count += units(&text[position..boundary], unit);
            position = boundary;
            (byte, count)
        };
        Self { offsets: wanted.into_iter().map(translate).collect() }
    }

    /// The translation of one of the offsets given to [`OffsetMap::new`]; `None` for any other.
    pub fn get(&self, byte: usize) -> Option<u32> {
        let index = self.offsets.binary_search_by_key(&byte, |&(byte, _)| byte).ok()?;
        Some(self.offsets[index].1)
    }
}

/// Length of a text in a unit.
fn units(text: &str, unit: OffsetUnit) -> u32 {
    let count = match unit {
        OffsetUnit::Utf8Byte => text.len(),
        OffsetUnit::Utf16CodeUnit => text.encode_utf16().count(),
        OffsetUnit::CodePoint => text.chars().count(),
    };
    // Documents are limited far below 4 GiB.
    u32::try_from(count).unwrap_or(u32::MAX)
}
