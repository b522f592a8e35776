//! The `rasid` command; see [`rasid::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Gives back to the machine what a replaced model or a burst of calls held.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    rasid::cli::run()
}
