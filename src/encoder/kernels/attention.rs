//! Self-attention of packed sequences.

use std::ops::Range;

use pulp::Simd;

use super::{
    LANES, Lanes, load,
    math::exp,
    store,
    tile::{Nothing, tile},
};
use crate::encoder::batch::sequences_within;

/// Columns of a panel of values.
const PANEL: usize = 8;

/// What attention works on.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    /// `[blocks][3 · hidden]`: queries, keys and values of all tokens.
    pub qkv: &'a [Lanes],
    /// Width of a hidden state.
    pub hidden: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Sequence `i` holds the tokens `bounds[i]..bounds[i + 1]`.
    pub bounds: &'a [usize],
}

/// Room for one head of one sequence; no larger matrix of scores or mask ever exists.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// Values, `[head size / 8][keys][8]`.
    values: Vec<[f32; PANEL]>,
    /// Scores of the queries of up to two blocks, `[blocks][keys][LANES]`.
    scores: Vec<Lanes>,
}

/// Scaled dot-product attention (Vaswani et al. 2017) of the tokens in `blocks`, each over its own sequence: writes the context,
/// `[blocks.len()][hidden]`.
#[inline(always)]
pub fn attention<S: Simd>(
    simd: S,
    input: AttentionInput<'_>,
    blocks: Range<usize>,
    context: &mut [Lanes],
    scratch: &mut AttentionScratch,
) {
    let tokens = blocks.start * LANES..blocks.end * LANES;
    for (keys, queries) in sequences_within(input.bounds, tokens) {
        for head in 0..input.heads {
            let size = input.hidden / input.heads;
            let column = head * size;
            let head = Head { input, column, size, keys: keys.clone(), queries: queries.clone() };
            pack_values(&head, &mut scratch.values);
            match LANES / S::F32_LANES {
                1 => head.sweep::<S, 2, 1, 8>(simd, blocks.start, context, scratch),
                2 => head.sweep::<S, 1, 2, 4>(simd, blocks.start, context, scratch),
                4 => head.sweep::<S, 1, 4, 4>(simd, blocks.start, context, scratch),
                _ => head.sweep::<S, 1, LANES, 1>(simd, blocks.start, context, scratch),
            }
        }
    }
}

/// Copies a head's values into panels, whole blocks of keys at a time.
#[inline(always)]
fn pack_values(head: &Head<'_>, values: &mut Vec<[f32; PANEL]>) {
    let key_blocks = head.key_blocks();
    let rows = key_blocks.len() * LANES;
    values.resize(head.size.div_ceil(PANEL) * rows, [0.0; PANEL]);
    for (index, block) in key_blocks.enumerate() {
        for (panel, source) in head.part(block, 2).chunks(PANEL).enumerate() {
            let target = &mut values[panel * rows + index * LANES..][..LANES];
            match <&[Lanes; PANEL]>::try_from(source) {
                // Of known size, so that it becomes shuffles.
                Ok(source) => transpose(source, target),
                Err(_) => transpose(source, target),
            }
        }
    }
}

#[inline(always)]
fn transpose(source: &[Lanes], target: &mut [[f32; PANEL]]) {
    for (lane, target) in target.iter_mut().enumerate() {
        for (value, lanes) in target.iter_mut().zip(source) {
            *value = lanes[lane];
        }
    }
}

/// One head over some queries of one sequence.
struct Head<'a> {
    input: AttentionInput<'a>,
    /// Where the head begins within a hidden state, and its width.
    column: usize,
    size: usize,
    /// Tokens of the sequence.
    keys: Range<usize>,
    /// Those to answer for.
    queries: Range<usize>,
}

impl Head<'_> {
    /// Blocks that hold a key.
    #[inline(always)]
    fn key_blocks(&self) -> Range<usize> {
        self.keys.start / LANES..self.keys.end.div_ceil(LANES)
    }

    /// Queries (0), keys (1) or values (2) of a block, `[size]`.
    #[inline(always)]
    fn part(&self, block: usize, part: usize) -> &[Lanes] {
        &self.input.qkv[(3 * block + part) * self.input.hidden + self.column..][..self.size]
    }

    /// All queries, `B` blocks and `C` columns at a time; the context's first block is `origin`.
    #[inline(always)]
    fn sweep<S: Simd, const B: usize, const V: usize, const C: usize>(
        &self,
        simd: S,
        origin: usize,
        context: &mut [Lanes],
        scratch: &mut AttentionScratch,
    ) {
        let mut block = self.queries.start / LANES;
        let end = self.queries.end.div_ceil(LANES);
        while block + B <= end {
            self.attend::<S, B, V, C>(simd, block, origin, context, scratch);
            block += B;
        }
        while block < end {
            self.attend::<S, 1, V, C>(simd, block, origin, context, scratch);
            block += 1;
        }
    }

    /// The queries of `B` blocks.
    #[inline(always)]
    fn attend<S: Simd, const B: usize, const V: usize, const C: usize>(
        &self,
        simd: S,
        block: usize,
        origin: usize,
        context: &mut [Lanes],
        scratch: &mut AttentionScratch,
    ) {
        let key_blocks = self.key_blocks();
        let rows = key_blocks.len() * LANES;
        self.score::<S, B, V, C>(simd, block, &mut scratch.scores);
        // Border blocks hold keys of other sequences: left out from here on.
        let skipped = self.keys.start - key_blocks.start * LANES;
        let own = |index: usize| index * rows + skipped..index * rows + skipped + self.keys.len();
        let scale = simd.splat_f32s(1.0 / (self.size as f32).sqrt());
        let mut inverse = [[scale; V]; B];
        for b in 0..B {
            inverse[b] = softmax::<S, V>(simd, &mut scratch.scores[own(b)], scale);
        }
        let mut weights = [&scratch.scores[..]; B];
        for b in 0..B {
            weights[b] = &scratch.scores[own(b)];
        }
        for panel in 0..self.size.div_ceil(PANEL) {
            let values = &scratch.values[own(panel)];
            for column in (0..PANEL).step_by(C) {
                let sums = tile::<S, B, V, PANEL, C>(simd, weights, values, column, Nothing);
                for c in 0..C {
                    let value = panel * PANEL + column + c;
                    if value >= self.size {
                        return;
                    }
                    for b in 0..B {
                        let mut mean = sums[c][b];
                        for v in 0..V {
                            mean[v] = simd.mul_f32s(mean[v], inverse[b][v]);
                        }
                        let row = (block + b - origin) * self.input.hidden + self.column + value;
                        self.store_own::<S, V>(block + b, mean, &mut context[row]);
                    }
                }
            }
        }
    }

    /// Products of the queries of `B` blocks with the keys of whole blocks: `[B][keys][LANES]`.
    #[inline(always)]
    fn score<S: Simd, const B: usize, const V: usize, const C: usize>(
        &self,
        simd: S,
        block: usize,
        scores: &mut Vec<Lanes>,
    ) {
        let key_blocks = self.key_blocks();
        let rows = key_blocks.len() * LANES;
        scores.resize(scores.len().max(B * rows), [0.0; LANES]);
        let mut queries = [self.input.qkv; B];
        for b in 0..B {
            queries[b] = self.part(block + b, 0);
        }
        for (index, key_block) in key_blocks.enumerate() {
            for column in (0..LANES).step_by(C) {
                let sums = tile::<S, B, V, LANES, C>(simd, queries, self.part(key_block, 1), column, Nothing);
                for c in 0..C {
                    for b in 0..B {
                        store::<S, V>(&mut scores[b * rows + index * LANES + column + c], sums[c][b]);
                    }
                }
            }
        }
    }

    /// Stores the lanes of a block that are queries; the others belong to another sequence.
    #[inline(always)]
    fn store_own<S: Simd, const V: usize>(&self, block: usize, values: [S::f32s; V], out: &mut Lanes) {
        let first = block * LANES;
        if self.queries.start <= first && first + LANES <= self.queries.end {
            store::<S, V>(out, values);
        } else {
            let mut lanes = [0.0; LANES];
            store::<S, V>(&mut lanes, values);
            let own = self.queries.start.max(first) - first..self.queries.end.min(first + LANES) - first;
            out[own.clone()].copy_from_slice(&lanes[own]);
        }
    }
}

/// `exp(scale · (x - max x))` in place; returns one over the sum.
#[inline(always)]
fn softmax<S: Simd, const V: usize>(simd: S, x: &mut [Lanes], scale: S::f32s) -> [S::f32s; V] {
    let mut max = [simd.splat_f32s(f32::NEG_INFINITY); V];
    for lanes in x.iter() {
        let values = load::<S, V>(lanes);
        for v in 0..V {
            max[v] = simd.max_f32s(max[v], values[v]);
        }
    }
    let mut sum = [simd.splat_f32s(0.0); V];
    for lanes in x.iter_mut() {
        let mut values = load::<S, V>(lanes);
        for v in 0..V {
            values[v] = exp(simd, simd.mul_f32s(simd.sub_f32s(values[v], max[v]), scale));
            sum[v] = simd.add_f32s(sum[v], values[v]);
        }
        store::<S, V>(lanes, values);
    }
    let mut inverse = sum;
    for v in 0..V {
        inverse[v] = simd.div_f32s(simd.splat_f32s(1.0), sum[v]);
    }
    inverse
}
