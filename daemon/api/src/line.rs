//! Lines of JSON.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use thiserror::Error;

/// The longest line that either side reads, 64 MiB: a full listing of a large table fits.
pub const MOST_LINE_BYTES: u64 = 64 << 20;

/// Why a line could not be exchanged.
#[derive(Debug, Error)]
pub enum LineError {
    /// The socket.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// The other side does not speak this protocol.
    #[error("line is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The other side is of a release whose words are not known here.
    #[error("line of release {version} is not understood: {error}")]
    OtherRelease {
        /// Of the other side.
        version: String,
        /// What is not understood.
        error: serde_json::Error,
    },
    /// The other side hung up.
    #[error("the other side closed the connection")]
    Closed,
    /// Over [`MOST_LINE_BYTES`].
    #[error("line is over {MOST_LINE_BYTES} octets")]
    TooLong,
}

/// All that is known of a line of another release.
#[derive(Deserialize)]
struct Release {
    version: String,
}

/// Writes one line.
///
/// # Errors
/// The socket's.
pub fn write_line(to: &mut impl Write, value: &impl Serialize) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(to.flush()?)
}

/// Reads one line.
///
/// # Errors
/// [`LineError`]; after [`LineError::Json`] and [`LineError::OtherRelease`] the next line can be read.
pub fn read_line<T: for<'de> Deserialize<'de>>(from: &mut impl BufRead) -> Result<T, LineError> {
    let mut line = Vec::new();
    let read = io::Read::take(&mut *from, MOST_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Err(LineError::Closed),
        Some(b'\n') => serde_json::from_slice(&line).map_err(|error| match serde_json::from_slice(&line) {
            Ok(Release { version }) if version != crate::VERSION => {
                LineError::OtherRelease { version, error }
            }
            _ => LineError::Json(error),
        }),
        Some(_) if read as u64 == MOST_LINE_BYTES => Err(LineError::TooLong),
        Some(_) => Err(LineError::Closed),
    }
}
