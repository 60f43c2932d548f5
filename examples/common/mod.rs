//! What the example programs have in common.
#![allow(dead_code, reason = "no program uses all of it")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use gatefold::{Error, Result};

pub mod recurrent;

/// The exit code of a program, and what went wrong on the standard error.
pub fn exit(name: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The data of this repository unless others are named: from here, or from where the example was built.
pub fn data(named: Option<&Path>, usual: &str) -> PathBuf {
    let here = Path::new("data").join(usual);
    match named {
        Some(path) => path.into(),
        None if here.exists() => here,
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(here),
    }
}

/// A text in UTF-8, without a byte order mark.
pub fn text(program: &'static str, path: &Path) -> Result<String> {
    let mut text = std::fs::read_to_string(path).map_err(|error| Error::file(program, path, error))?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// An error before the training, rather than after it, where a picture cannot be drawn.
pub fn drawable(option: &'static str, path: &Path) -> Result<()> {
    let end = path.extension().unwrap_or_default();
    if end == "svg" || end == "png" && cfg!(feature = "plotters") {
        return writable(option, path);
    }
    Err(Error::argument(option, path.display(), "a file.svg, or a file.png with --features plotters"))
}

/// The same where something else cannot be written.
pub fn writable(option: &'static str, path: &Path) -> Result<()> {
    let existed = path.exists();
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        // Where a link leads there is a file now; the link was there before.
        .and_then(|_| if existed { Ok(()) } else { std::fs::remove_file(path.canonicalize()?) })
        .map_err(|error| Error::file(option, path, error))
}
