//! The `rasid` command; see [`rasid::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rasid::cli::run()
}
