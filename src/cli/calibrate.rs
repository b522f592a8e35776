//! `rasid model calibrate`.

use std::{fmt::Write, path::PathBuf};

use clap::Args;

use super::CliError;
use crate::{
    calibration::{self, FOLDS, Fitted, MIN_POSITIVES, Scores, Summary, Validation},
    eval::statistics::Reliability,
    model::{self, Bundle},
};

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Scores of held-out data, as `rasid eval --scores` wrote them with this very model. Topics are fitted on articles and on texts that
    /// name all of their topics, entities on all whose type is annotated.
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,

    /// The bundle, whose manifest is written anew.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,

    /// Name of the calibration, which every answer carries.
    #[arg(long, value_name = "ID", value_parser = identifier)]
    id: String,
}

fn identifier(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text == "none" { Err("must not be empty or \"none\"") } else { Ok(text.to_owned()) }
}

/// Calibrates a bundle; gives what became of each topic and entity type, for a person to read.
pub fn run(args: &CalibrateArgs) -> Result<String, CliError> {
    let mut manifest = Bundle::open(&args.bundle)?.into_manifest();
    let scores = Scores::read(&args.scores, &manifest)?;
    let summary = calibration::calibrate(&mut manifest, &scores, &args.id)?;
    let sealed = model::write_manifest(manifest, &args.bundle)?;
    Ok(format!("{}\ncalibration  {}\nrevision     {}\n", table(&summary), args.id, sealed.revision))
}

fn table(summary: &Summary) -> String {
    let mut out = format!(
        "{:<26} {:>6} {:>6} {:>7} {:>7} {:>7} {:>9} {:>15}\n",
        "", "has", "not", "scale", "below", "bias", "threshold", "ECE"
    );
    for fitted in summary.topics.iter().chain(&summary.entity_types) {
        let Fitted { name, positives, negatives, enough, calibration, threshold, ece } = fitted;
        let threshold = threshold.map_or(String::new(), |threshold| format!("{threshold:.2}"));
        let [before, after] = ece.map(|ece| ece.map_or("-".to_owned(), |ece| format!("{ece:.3}")));
        let note = if *enough { "" } else { "  few" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{name:<26} {positives:>6} {negatives:>6} {:>7.3} {:>7.3} {:>7.3} {threshold:>9} {before:>6} → {after:>6}{note}",
            calibration.scale, calibration.scale_below, calibration.bias
        );
    }
    let _ = match &summary.validation {
        Some(Validation { topics_macro_f1, topics, entities }) => writeln!(
            out,
            "Texts (rows) that the fit has not seen, by {FOLDS} folds: macro F1 of topics {topics_macro_f1:.3}, ECE of assigned topics {}, \
             of entities {}",
            ece(topics),
            ece(entities)
        ),
        None => writeln!(out, "Too few texts for {FOLDS} folds: what it is worth on other texts is not known"),
    };
    if summary.incomplete_texts > 0 {
        let _ = writeln!(out, "{} texts left out: they do not name all of their topics", summary.incomplete_texts);
    }
    if summary.topics.iter().any(|topic| !topic.enough) {
        let _ = writeln!(
            out,
            "few: fewer than {MIN_POSITIVES} texts have the topic, so its fit is nearly that of all topics and is not called calibrated"
        );
    }
    out
}

/// The error, and what it would be if every probability were right.
fn ece(of: &Reliability) -> String {
    let [ece, floor] = [of.ece, of.ece_floor].map(|value| value.map_or("-".to_owned(), |value| format!("{value:.3}")));
    format!("{ece} (floor {floor})")
}
