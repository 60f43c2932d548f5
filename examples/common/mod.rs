//! What the example programs have in common.
#![allow(dead_code, reason = "no program uses all of it")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use gatefold::Result;

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
