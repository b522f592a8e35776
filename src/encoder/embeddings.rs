//! Word embeddings: a table that stays quantised in memory, its rows decoded on look-up.

use std::io::Cursor;

use candle_core::{Result, bail, quantized::GgmlDType, quantized::gguf_file};
use half::f16;

/// Values in a Q4_0 block, and its bytes: one f16 scale, sixteen bytes of two values each.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 18;

/// Name of the table in the GGUF file.
const TENSOR: &str = "embeddings.word_embeddings.weight";

/// A table of `[rows, width]` in GGML Q4_0 (ggml's `block_q4_0`).
#[derive(Debug)]
pub struct WordEmbeddings {
    file: Vec<u8>,
    start: usize,
    rows: usize,
    width: usize,
}

impl WordEmbeddings {
    /// Finds the table in the bytes of a GGUF file.
    ///
    /// # Errors
    /// If the file does not hold a Q4_0 table of `[rows, width]` under the name `embeddings.word_embeddings.weight`.
    pub fn from_gguf(file: Vec<u8>, rows: usize, width: usize) -> Result<Self> {
        let content = gguf_file::Content::read(&mut Cursor::new(&file))?;
        let Some(info) = content.tensor_infos.get(TENSOR) else {
            bail!("no tensor {TENSOR}");
        };
        if info.ggml_dtype != GgmlDType::Q4_0 {
            bail!("tensor {TENSOR} is {:?}, must be Q4_0", info.ggml_dtype);
        }
        if info.shape.dims() != [rows, width] || !width.is_multiple_of(BLOCK) {
            bail!("tensor {TENSOR} has shape {:?}, the manifest asks for {:?}", info.shape.dims(), [rows, width]);
        }
        let bytes = (rows * width / BLOCK * BLOCK_BYTES) as u64;
        let start = content.tensor_data_offset.checked_add(info.offset);
        match start.and_then(|start| Some((start, start.checked_add(bytes)?))) {
            Some((start, end)) if end <= file.len() as u64 => Ok(Self { file, start: start as usize, rows, width }),
            _ => bail!("tensor {TENSOR} ends behind the end of the file"),
        }
    }

    /// Appends row `id`, `width` values, to `out`.
    ///
    /// # Errors
    /// If the table has no such row.
    pub fn push_row(&self, id: u32, out: &mut Vec<f32>) -> Result<()> {
        let id = id as usize;
        if id >= self.rows {
            bail!("token {id} is not in the vocabulary of {}", self.rows);
        }
        let row_bytes = self.width / BLOCK * BLOCK_BYTES;
        let start = self.start + id * row_bytes;
        for block in self.file[start..start + row_bytes].chunks_exact(BLOCK_BYTES) {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let values = &block[2..];
            // The low halves of the sixteen bytes come first, then the high ones.
            out.extend(values.iter().map(|byte| (f32::from(byte & 0x0f) - 8.0) * scale));
            out.extend(values.iter().map(|byte| (f32::from(byte >> 4) - 8.0) * scale));
        }
        Ok(())
    }
}
