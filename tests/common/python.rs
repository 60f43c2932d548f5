//! The Python that some tests compare with.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "skipped.rs"]
mod skipped;
use skipped::skipped;

/// A Python that has a package: in target/python, where scripts/test puts it, or the one that `GATEFOLD_PYTHON` names. Without it
/// says that the calling test is skipped.
pub fn with(package: &str) -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = env::var_os("GATEFOLD_PYTHON").map_or_else(usual, PathBuf::from);
    let has = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skipped(&format!("no {package} in {}", python.display()));
    None
}

/// What a script of tests/ prints for its arguments, which is JSON.
pub fn run(python: &Path, script: &str, arguments: &[&str]) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
