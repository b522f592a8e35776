//! Documents from files and standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use super::CliError;
use crate::{proto, proto::v1, text::Document};

/// What the input files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// JSON Lines if the file's name ends in .jsonl, text otherwise.
    Auto,
    /// One article a file.
    Text,
    /// One rasid.v1.Document a line, in JSON: {"id": …, "title": …, "text": …}.
    Jsonl,
}

/// How to read the input.
#[derive(Debug, Clone, Copy)]
pub struct InputOptions {
    pub format: InputFormat,
    pub title_first: bool,
}

/// A document, or why the input at its place is none.
pub type Item = Result<Document, Unreadable>;

/// A place in the input that holds no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Id of the document, as far as it is known.
    pub id: String,
    /// The part that cannot be read.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The documents of some files, one after the other, read as they are asked for. `-` is standard input.
pub fn documents(paths: &[PathBuf], options: InputOptions) -> impl Iterator<Item = Result<Item, CliError>> {
    paths.iter().flat_map(move |path| match open(path, options) {
        Ok(documents) => documents,
        Err(error) => Box::new(std::iter::once(Err(error))),
    })
}

type Items = Box<dyn Iterator<Item = Result<Item, CliError>>>;

fn open(path: &Path, options: InputOptions) -> Result<Items, CliError> {
    let failed = |source| CliError::Input { path: path.to_owned(), source };
    let mut reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(failed)?))
    };
    let is_jsonl = match options.format {
        InputFormat::Auto => path.extension().is_some_and(|extension| extension == "jsonl"),
        InputFormat::Text => false,
        InputFormat::Jsonl => true,
    };
    if is_jsonl {
        return Ok(json_lines(reader, path.to_owned()));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Box::new(std::iter::once(Ok(text_document(path, bytes, options.title_first)))))
}

/// One article; its id is the file's name as it was given.
fn text_document(path: &Path, bytes: Vec<u8>, title_first: bool) -> Item {
    let id = path.display().to_string();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let problem = format!("is not valid UTF-8 (byte {})", error.utf8_error().valid_up_to());
            return Err(Unreadable { id, field: "text".to_owned(), problem });
        }
    };
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (title, text) = if title_first { text.split_once('\n').unwrap_or((text, "")) } else { ("", text) };
    Ok(Document { id, title: title.trim().to_owned(), text: text.to_owned(), language_code: String::new() })
}

fn json_lines(mut reader: Box<dyn BufRead>, path: PathBuf) -> Items {
    let mut number = 0;
    Box::new(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(source) => return Some(Err(CliError::Input { path: path.clone(), source })),
            }
            number += 1;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Ok(json_document(&line, &path, number)));
            }
        }
    }))
}

fn json_document(line: &[u8], path: &Path, number: usize) -> Item {
    let wrong =
        |problem: String| Unreadable { id: String::new(), field: format!("{}:{number}", path.display()), problem };
    let line = std::str::from_utf8(line)
        .map_err(|error| wrong(format!("is not valid UTF-8 (byte {})", error.valid_up_to())))?;
    let document = proto::from_json::<v1::Document>("rasid.v1.Document", line)
        .map_err(|error| wrong(format!("is not a rasid.v1.Document in JSON: {error}")))?;
    Ok(document.into())
}
