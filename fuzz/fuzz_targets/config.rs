//! Any text as a settings file: settings, or an error that names the place.

#![no_main]

use std::io::Write;

use clap::{Args, FromArgMatches};
use libfuzzer_sys::fuzz_target;
use rasid::config::{Layers, ServeSettings};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new_in(rasid_fuzz::shared_memory()).expect("a file");
    file.write_all(data).expect("a file");
    let command = ServeSettings::augment_args(clap::Command::new("serve"));
    match Layers::lay(command, Some(file.path())) {
        Ok((command, layers)) => {
            let matches = command.clone().try_get_matches_from(["serve"]).expect("what was checked is accepted");
            ServeSettings::from_arg_matches(&matches).expect("what was checked is accepted");
            assert!(!layers.effective(&command, &matches).is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
