//! Tests that cannot run.

use std::io::Write;

/// Says that the calling test cannot run, in a line of its own. Not by println!, which the harness holds back where a test passes.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    // The harness may be in the middle of a line.
    let line = format!("\nskipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
}
