//! The `rasid` command; see [`rasid::cli`].

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives back to the machine what a replaced model or a burst of calls held.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    rasid::cli::run()
}
