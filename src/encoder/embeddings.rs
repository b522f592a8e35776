//! Embeddings: sums of word, position and type; the words' table stays quantised in memory, its rows decoded on look-up.

use bytes::Bytes;
use candle_core::{Result, bail, quantized::GgmlDType};
use half::f16;

use super::{EncoderConfig, PackedBatch, Weights, gguf};

/// Values in a Q4_0 block, and its bytes: one f16 scale, sixteen bytes of two values each.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 18;

/// Name of the table in the GGUF file.
const TENSOR: &str = "embeddings.word_embeddings.weight";

/// A table of `[rows, width]` in GGML Q4_0 (ggml's `block_q4_0`).
#[derive(Debug)]
pub struct WordEmbeddings {
    /// The blocks, row by row.
    table: Bytes,
    rows: usize,
    width: usize,
}

impl WordEmbeddings {
    /// Finds the table in the bytes of a GGUF file.
    ///
    /// # Errors
    /// If the file does not hold a Q4_0 table of `[rows, width]` under the name `embeddings.word_embeddings.weight`.
    pub fn from_gguf(file: &Bytes, rows: usize, width: usize) -> Result<Self> {
        let content = gguf::header(file)?;
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
            Some((start, end)) if end <= file.len() as u64 => {
                Ok(Self { table: file.slice(start as usize..end as usize), rows, width })
            }
            _ => bail!("tensor {TENSOR} ends behind the end of the file"),
        }
    }

    /// Writes row `id`, which must exist, to `out` of the table's width.
    fn write(&self, id: u32, out: &mut [f32]) {
        let row_bytes = self.width / BLOCK * BLOCK_BYTES;
        let row = &self.table[id as usize * row_bytes..][..row_bytes];
        for (block, out) in row.chunks_exact(BLOCK_BYTES).zip(out.chunks_exact_mut(BLOCK)) {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            // The low halves of the sixteen bytes come first, then the high ones.
            let (low, high) = out.split_at_mut(BLOCK / 2);
            for ((byte, low), high) in block[2..].iter().zip(low).zip(high) {
                *low = (f32::from(byte & 0x0f) - 8.0) * scale;
                *high = (f32::from(byte >> 4) - 8.0) * scale;
            }
        }
    }
}

/// The input of the first layer, before its norm.
#[derive(Debug)]
pub(super) struct Embeddings {
    words: WordEmbeddings,
    /// Position and token-type embeddings added up: `[positions, width]`.
    positions: Vec<f32>,
}

impl Embeddings {
    /// Takes position and type embeddings out of weights named as in Hugging Face's `BertModel`.
    pub fn load(weights: &mut Weights, words: WordEmbeddings, config: &EncoderConfig) -> Result<Self> {
        let (rows, width) = (config.max_position_embeddings, config.hidden_size);
        let positions = weights.take("embeddings.position_embeddings.weight", &[rows, width])?;
        let types = weights.take("embeddings.token_type_embeddings.weight", &[2, width])?;
        let positions = positions.broadcast_add(&types.narrow(0, 0, 1)?)?;
        Ok(Self { words, positions: positions.flatten_all()?.to_vec1()? })
    }

    /// Says whether all tokens of a batch can be looked up.
    pub fn check(&self, batch: &PackedBatch) -> Result<()> {
        if batch.tokens() == 0 {
            bail!("the batch is empty");
        }
        if let Some(id) = batch.ids().iter().find(|&&id| id as usize >= self.words.rows) {
            bail!("token {id} is not in the vocabulary of {}", self.words.rows);
        }
        let positions = self.positions.len() / self.words.width;
        match batch.bounds().windows(2).map(|pair| pair[1] - pair[0]).max() {
            Some(longest) if longest > positions => {
                bail!("sequence of {longest} tokens, the model has {positions} positions")
            }
            _ => Ok(()),
        }
    }

    /// Writes a token's sum to `out` of the table's width. Token and position must be known to exist.
    pub fn write(&self, id: u32, position: usize, out: &mut [f32]) {
        self.words.write(id, out);
        for (value, position) in out.iter_mut().zip(&self.positions[position * self.words.width..]) {
            *value += position;
        }
    }

    /// The sums of all tokens, `[tokens, width]`.
    pub fn rows(&self, batch: &PackedBatch) -> Vec<f32> {
        let width = self.words.width;
        let mut rows = vec![0.0; batch.tokens() * width];
        for pair in batch.bounds().windows(2) {
            for token in pair[0]..pair[1] {
                self.write(batch.ids()[token], token - pair[0], &mut rows[token * width..][..width]);
            }
        }
        rows
    }
}
