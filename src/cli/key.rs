//! `rasid key`.

use std::{path::PathBuf, process::ExitCode};

use anstream::{eprintln, println};
use clap::{Args, Subcommand};

use super::CliError;
use crate::auth::{KeySources, KeyStore, check_name, new_key};

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key: standard output gets the lines for the keys file, standard error the key, once.
    New {
        /// The client's name, as metrics and logs will have it.
        name: String,
    },
    /// Check a keys file as a server would.
    Check {
        /// The keys file.
        file: PathBuf,
    },
}

pub fn run(args: &KeyArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        KeyCommand::New { name } => new(name)?,
        KeyCommand::Check { file } => check(file.clone())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(name: &str) -> Result<(), CliError> {
    check_name(name).map_err(CliError::KeyName)?;
    let (key, hash) = new_key().map_err(CliError::Random)?;
    // Not into the file, if standard output goes there.
    eprintln!(
        "{key}\n  is the key, which is shown once and kept nowhere; clients send it as \"authorization: Bearer KEY\""
    );
    println!("[[keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"");
    Ok(())
}

fn check(file: PathBuf) -> Result<(), CliError> {
    let store = KeyStore::open("keys", KeySources { file: Some(file), pairs: None })?;
    println!("{} keys", store.len());
    Ok(())
}
