//! Numbers against PyTorch's: every parity case below the folder that `GATEFOLD_PARITY_CASES` names (default: `tests/fixtures`), on
//! every device that the build and the machine have.
//!
//! A line `devices: …` first, one for each failure (file, device, tensor, largest error, bound) and each unsupported case (file,
//! why), and at the end `parity: N passed, M failed, K unsupported`.

mod case;
mod functions;
mod modules;
mod onnx;
mod optimizers;

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use case::{Case, Outcome};
use gatefold::Device;

/// The `.safetensors` files below a folder, in the order of their names.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// The CPU, and the first GPU; or why there is none, where the build could use one.
fn devices() -> (Vec<Device>, Option<String>) {
    let gpu = Device::Cuda(0);
    match gpu.check("parity") {
        Ok(()) => (vec![Device::Cpu, gpu], None),
        Err(e) => (vec![Device::Cpu], cfg!(feature = "cuda").then(|| format!("skipped: pytorch_parity on {gpu}: {e}"))),
    }
}

fn run(case: &Case) -> gatefold::Result<Outcome> {
    if case.has("module") {
        modules::run(case)
    } else if case.has("attributes") {
        onnx::run(case)
    } else if case.has("optimizer") {
        optimizers::run(case)
    } else if case.has("scheduler") {
        optimizers::run_schedule(case)
    } else if case.has("op") {
        functions::run(case)
    } else {
        Ok(Outcome::Unsupported("an unknown kind of case".into()))
    }
}

#[test]
fn pytorch_parity() {
    let named = std::env::var_os("GATEFOLD_PARITY_CASES").filter(|folder| !folder.is_empty());
    let folder =
        named.as_ref().map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), PathBuf::from);
    let mut paths = Vec::new();
    files(&folder, &mut paths).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    assert!(!paths.is_empty(), "no .safetensors file below {}", folder.display());

    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    // Not println!, which the test harness holds back where a test passes.
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output");
    let (devices, skipped) = devices();
    let needed = std::env::var_os("GATEFOLD_TESTS_NEED_GPU").is_some();
    assert!(!needed || skipped.is_none(), "{skipped:?}");
    skipped.into_iter().for_each(&mut say);
    say(format!("devices: {}", devices.iter().map(Device::to_string).collect::<Vec<_>>().join(" ")));
    for path in &paths {
        let name = path.strip_prefix(&folder).unwrap_or(path).display();
        for &device in &devices {
            let attempt = || Case::load(path, device).and_then(|case| run(&case).map_err(|e| e.to_string()));
            let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| Err("panicked".into()));
            match outcome {
                Ok(Outcome::Passed) => passed += 1,
                Ok(Outcome::Unsupported(why)) => {
                    unsupported += 1;
                    say(format!("unsupported: {name}: {why}"));
                }
                Ok(Outcome::Failed(lines)) => {
                    failed += 1;
                    lines.iter().for_each(|line| say(format!("failed: {name} on {device}: {line}")));
                }
                Err(e) => {
                    failed += 1;
                    say(format!("failed: {name} on {device}: {e}"));
                }
            }
        }
    }
    say(format!("parity: {passed} passed, {failed} failed, {unsupported} unsupported"));
    assert_eq!(failed, 0, "cases failed; see the lines above");
    if named.is_none() {
        assert_eq!((unsupported, passed), (0, paths.len() * devices.len()), "every fixture of the repository's is run");
    }
}
