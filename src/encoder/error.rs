//! candle's errors, made fit to be shown.

use candle_core::Error;

/// The error itself: candle's message otherwise goes on with a backtrace when `RUST_BACKTRACE` is set.
pub fn without_backtrace(error: Error) -> Error {
    match error {
        Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        other => other,
    }
}
