//! Every byte of a manifest and of the headers of weights may be wrong, and the checksum with it: a clear error, or the same content. No
//! panic, and no memory for what a header only says is there.

mod support;

use std::fs;

use bytes::Bytes;
use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use rasid::{
    encoder::{Weights, WordEmbeddings},
    model::{Bundle, Manifest},
    text::{Document, Tokenizer},
};
use support::model_folder;

/// Any value that a byte can have.
fn any() -> Vec<u8> {
    (0..=255).collect()
}

/// Every byte of some as other values, one at a time; returns how many of them gave an error.
fn damaged<T: PartialEq + std::fmt::Debug>(
    good: &[u8],
    values: &[u8],
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> usize {
    let expected = read(good).unwrap();
    let mut bytes = good.to_vec();
    let mut errors = 0;
    for at in 0..good.len() {
        let others = values.iter().copied().chain([good[at] ^ 1, good[at] ^ 0x20]);
        for value in others.filter(|&value| value != good[at]) {
            bytes[at] = value;
            match read(&bytes) {
                Ok(content) => assert_eq!(content, expected, "byte {at} as {value}"),
                Err(error) => {
                    assert!(error.len() > 10, "byte {at} as {value}: {error}");
                    errors += 1;
                }
            }
        }
        bytes[at] = good[at];
    }
    errors
}

/// As [`damaged`], of a header with more behind it.
fn damaged_header<T: PartialEq + std::fmt::Debug>(
    file: &[u8],
    header: usize,
    values: &[u8],
    read: impl Fn(&[u8]) -> Result<T, String>,
) {
    let errors = damaged(&file[..header], values, |header_only| read(&[header_only, &file[header..]].concat()));
    assert!(errors > header * values.len() / 2, "{errors} errors of {header} bytes");
}

#[test]
fn every_byte_of_the_manifest() {
    let good = fs::read(model_folder().join("manifest.json")).unwrap();
    let errors = damaged(&good, b"\0\xff\" ", |bytes| Manifest::from_json(bytes).map_err(|error| error.to_string()));
    assert!(errors > 4 * good.len(), "{errors}");
}

fn tensor(shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product::<usize>()).map(|index| index as f32).collect::<Vec<_>>();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Two tensors, as a model takes them.
fn weights(bytes: &[u8]) -> Result<Vec<Vec<f32>>, String> {
    let read = || -> candle_core::Result<_> {
        let mut weights = Weights::from_bytes(bytes, &Device::Cpu)?;
        let mut take = |name, shape: &[usize]| weights.take(name, shape)?.flatten_all()?.to_vec1();
        Ok(vec![take("a", &[2, 64])?, take("b.bias", &[32])?])
    };
    read().map_err(|error| error.to_string())
}

/// The most memory that this process has asked for so far, in bytes.
fn asked_for() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or("0");
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn every_byte_of_the_header_of_weights() {
    for dtype in [DType::F32, DType::F16] {
        let named = [("a", tensor(&[2, 64])), ("b.bias", tensor(&[32]))];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor.to_dtype(dtype).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        candle_core::safetensors::save(&named.into(), &path).unwrap();
        let file = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        damaged_header(&file, header, &any(), weights);
    }
}

#[test]
fn every_byte_of_the_header_of_weights_in_gguf() {
    let quantized = |shape: &[usize]| QTensor::quantize(&tensor(shape), GgmlDType::Q8_0).unwrap();
    let (a, b) = (quantized(&[2, 64]), quantized(&[32]));
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &[], &[("a", &a), ("b.bias", &b)]).unwrap();
    let (header, before) = (header_of_gguf(file.get_ref()), asked_for());
    let read = |bytes: &[u8]| {
        // What numbers the bytes are is the header's word alone, where two kinds take as much room: only the checksum vouches for it.
        let types = |bytes: &[u8]| gguf_file::Content::read(&mut std::io::Cursor::new(bytes)).map(dtypes);
        let same = types(bytes).ok() == types(file.get_ref()).ok();
        weights(bytes).and_then(|weights| if same { Ok(weights) } else { Err("another type of numbers".to_owned()) })
    };
    damaged_header(file.get_ref(), header, &any(), read);
    assert!(asked_for() < before + (8 << 30), "{} bytes more", asked_for() - before);
}

fn dtypes(content: gguf_file::Content) -> Vec<(String, GgmlDType)> {
    let mut types: Vec<_> = content.tensor_infos.into_iter().map(|(name, info)| (name, info.ggml_dtype)).collect();
    types.sort_by(|(a, _), (b, _)| a.cmp(b));
    types
}

fn header_of_gguf(file: &[u8]) -> usize {
    gguf_file::Content::read(&mut std::io::Cursor::new(file)).unwrap().tensor_data_offset as usize
}

#[test]
fn every_byte_of_the_header_of_word_embeddings() {
    let table = QTensor::quantize(&tensor(&[2, 32]), GgmlDType::Q4_0).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &[], &[("embeddings.word_embeddings.weight", &table)]).unwrap();
    // Its content is in its debug form.
    let read = |bytes: &[u8]| match WordEmbeddings::from_gguf(&Bytes::copy_from_slice(bytes), 2, 32) {
        Ok(table) => Ok(format!("{table:?}")),
        Err(error) => Err(error.to_string()),
    };
    damaged_header(file.get_ref(), header_of_gguf(file.get_ref()), &any(), read);
}

#[test]
fn every_byte_of_the_header_of_the_tokenizer() {
    let file = fs::read(model_folder().join("tokenizer.safetensors")).unwrap();
    let vocabulary = Bundle::open(model_folder()).unwrap().manifest().encoder.vocab_size;
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let document =
        Document { text: "The army met in Baghdad. اجتمع الجيش.".to_owned(), ..Document::default() };
    let read = |bytes: &[u8]| {
        let tokenizer = Tokenizer::from_compact(&Bytes::copy_from_slice(bytes), vocabulary);
        let tokens = tokenizer.and_then(|tokenizer| tokenizer.tokenize(&document));
        tokens.map(|tokens| format!("{tokens:?}")).map_err(|error| error.to_string())
    };
    damaged_header(&file, header, b"\0\xff\"9", read);
}
