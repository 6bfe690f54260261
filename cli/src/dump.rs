//! A dump on its way from the daemon into a file.
//!
//! It is written beside the file and moved there when it is whole: nobody takes half a table for all of it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cambric_api::{Body, Dump, Reply};
use thiserror::Error;

/// Why there is no file.
#[derive(Debug, Error)]
pub(crate) enum DumpError {
    #[error("{}: {cause}", file.display())]
    File { file: PathBuf, cause: io::Error },
    #[error("the daemon sent no piece of a dump; is it as new as this cambric?")]
    Rubbish,
}

/// What came up to now.
pub(crate) struct Dumped {
    /// Where it shall be; `None`: on the standard output.
    file: Option<PathBuf>,
    out: Box<dyn Write>,
    fault: Option<DumpError>,
}

impl Dumped {
    /// Into this file, or to the standard output if it is called `-`.
    pub(crate) fn begin(file: &Path) -> Result<Dumped, DumpError> {
        if file == Path::new("-") {
            return Ok(Dumped { file: None, out: Box::new(BufWriter::new(io::stdout())), fault: None });
        }
        let out = File::create(unfinished(file));
        let out = out.map_err(|cause| DumpError::File { file: file.to_owned(), cause })?;
        Ok(Dumped { file: Some(file.to_owned()), out: Box::new(BufWriter::new(out)), fault: None })
    }

    /// Takes a piece; nothing more is wanted once that has failed.
    pub(crate) fn take(&mut self, piece: &Reply) -> ControlFlow<()> {
        if self.fault.is_none() {
            self.fault = self.write(piece).err();
        }
        match &self.fault {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    }

    /// Takes the last piece, and puts the file into its place. Gives what there is to say, in words and for
    /// programs, if the output is not the dump itself.
    pub(crate) fn end(mut self, last: Reply) -> Result<Option<(String, Reply)>, DumpError> {
        if self.take(&last).is_break() {
            return Err(self.fault.take().unwrap_or(DumpError::Rubbish));
        }
        let file = self.file.clone();
        let fault = |cause| DumpError::File { file: file.clone().unwrap_or_else(|| "-".into()), cause };
        self.out.flush().map_err(fault)?;
        let (Some(file), Body::Dump(Dump { prefixes, paths, .. })) = (&self.file, last.body) else {
            return Ok(None);
        };
        fs::rename(unfinished(file), file).map_err(fault)?;
        let words = format!("{prefixes} prefixes, {paths} paths in {}\n", file.display());
        self.file = None;
        // The octets are where they belong.
        let body = Body::Dump(Dump { octets: String::new(), prefixes, paths });
        Ok(Some((words, Reply { body, ..last })))
    }

    fn write(&mut self, piece: &Reply) -> Result<(), DumpError> {
        let Body::Dump(dump) = &piece.body else { return Err(DumpError::Rubbish) };
        let octets = dump.octets().ok_or(DumpError::Rubbish)?;
        let file = || self.file.clone().unwrap_or_else(|| "-".into());
        self.out.write_all(&octets).map_err(|cause| DumpError::File { file: file(), cause })
    }
}

impl Drop for Dumped {
    /// One that did not come to its end leaves nothing.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            drop(fs::remove_file(unfinished(file)));
        }
    }
}

fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
