//! `rasid model`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};

use super::{CliError, calibrate};
use crate::{
    config::{ModelSettings, PackSettings},
    model::{self, EncoderFormat, Manifest},
};

#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Load a model, verify its checksums and print what it is.
    Info {
        #[command(flatten)]
        model: ModelSettings,
        /// Print the manifest instead, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a bundle from trained weights.
    Pack {
        #[command(flatten)]
        parts: PackSettings,
        /// How to store encoder and heads.
        #[arg(long, default_value = "f16")]
        encoder_format: FormatArg,
    },
    /// Fit calibration and thresholds on scores of held-out data, write them into a bundle and seal it.
    Calibrate(calibrate::CalibrateArgs),
    /// Compute checksums and revision of a bundle anew, after an edit of its manifest.
    Seal {
        /// The bundle.
        folder: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Half precision.
    F16,
    /// Eight-bit blocks of 32: half the size, close but not the same.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Runs a `model` command.
pub fn run(args: &ModelArgs) -> Result<ExitCode, CliError> {
    let text = match &args.command {
        ModelCommand::Info { model, json } => {
            let tagger = model.load()?;
            if *json { tagger.manifest().to_sealed_json()? } else { describe(tagger.manifest()) }
        }
        ModelCommand::Pack { parts, encoder_format } => {
            let format = match encoder_format {
                FormatArg::F16 => EncoderFormat::F16,
                FormatArg::Q8_0 => EncoderFormat::Q8_0,
            };
            let PackSettings { manifest, weights, embeddings, tokenizer, out } = parts;
            describe(&model::pack(manifest, weights, embeddings, tokenizer, format, out)?)
        }
        ModelCommand::Calibrate(args) => calibrate::run(args)?,
        ModelCommand::Seal { folder } => describe(&model::seal(folder)?),
    };
    io::stdout().write_all(text.as_bytes()).map_err(CliError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// A manifest for a person to read.
fn describe(manifest: &Manifest) -> String {
    let shape = &manifest.encoder;
    let calibrated = if manifest.calibration.calibrated { "" } else { " (not calibrated)" };
    let mut lines = vec![
        format!("name         {}", manifest.name),
        format!("version      {}", manifest.version),
        format!("revision     {}", manifest.revision),
        format!("license      {}", manifest.license),
        format!("calibration  {}{calibrated}", manifest.calibration.id),
        format!(
            "encoder      {} layers, {} hidden, {} heads, {} tokens in the vocabulary",
            shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads, shape.vocab_size
        ),
        format!("window       {} tokens, overlap {}", manifest.window.tokens, manifest.window.overlap),
        format!("languages    {}", manifest.evaluated_languages.join(" ")),
    ];
    for file in manifest.files.iter() {
        lines.push(format!("file         {:<20} {:>11} bytes  sha256 {}", file.name, file.bytes, file.sha256));
    }
    for kind in &manifest.entity_types {
        lines.push(format!("entity       {:<26} {}", kind.id, kind.description));
    }
    for topic in &manifest.topics {
        lines.push(format!(
            "topic        {:<26} {}  from {:.2}  {}",
            topic.id, topic.iptc_code, topic.threshold, topic.description
        ));
    }
    lines.join("\n") + "\n"
}
