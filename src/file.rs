//! Files: written whole or not at all, and read line by line with the place of a fault.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::{Error, Result};

/// Writes a file beside `path` under another name, synchronises it and renames it: whenever the machine stops, `path` is the old
/// file or the new one.
pub(crate) fn write(op: &'static str, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |reason: &dyn Display| Error::file(op, path, reason);
    let (temporary, mut file) = loop {
        let temporary = beside(path).ok_or_else(|| fail(&"not the name of a file"))?;
        match File::create_new(&temporary) {
            Ok(file) => break (temporary, file),
            // Left by a process of the same number that was killed: in a container each is the first.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(fail(&e)),
        }
    };
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    if let Err(e) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(fail(&e));
    }
    // Some file systems cannot synchronise a folder; the file is whole all the same.
    if let Some(folder) = temporary.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The bytes of a regular file; a folder or a device is an `Err`.
pub(crate) fn read(op: &'static str, path: &Path) -> Result<Vec<u8>> {
    let fail = |reason: &dyn Display| Error::file(op, path, reason);
    if !fs::metadata(path).map_err(|e| fail(&e))?.is_file() {
        return Err(fail(&"not a regular file"));
    }
    fs::read(path).map_err(|e| fail(&e))
}

/// What the names of files that are being written end in.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A name in the same folder that nobody else of this process uses.
fn beside(path: &Path) -> Option<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name()?.to_string_lossy().into_owned();
    let unique = format!(".{name}.{}-{}{TEMPORARY}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.join(unique))
}

/// A line of a text file without its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// What is wrong at a byte of the line, with its place. Columns count characters from 1.
    pub fn fault(&self, byte: usize, reason: impl Display) -> String {
        let before = self.text.get(..byte).unwrap_or(self.text);
        place(self.number, before, reason)
    }

    /// The parts between separators, and the byte where each begins.
    pub fn split(&self, separator: char) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let mut next = 0;
        self.text.split(separator).map(move |part| {
            let start = next;
            next += part.len() + separator.len_utf8();
            (start, part)
        })
    }
}

fn place(number: usize, before: &str, reason: impl Display) -> String {
    format!("line {number}, column {}: {reason}", before.chars().count() + 1)
}

/// The lines of a text in UTF-8, with line ends of Unix or Windows, without a byte order mark. Behind the last line end there is
/// one more, empty line.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<Line<'_>, String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.split(|&byte| byte == b'\n').enumerate().map(|(i, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Line { number: i + 1, text }),
            Err(error) => Err(place(i + 1, &String::from_utf8_lossy(&line[..error.valid_up_to()]), "not UTF-8")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process of the same number left when it was killed is passed over.
    #[test]
    fn names_that_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let next = beside(&path).unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let (start, end) = next.rsplit_once('-').unwrap();
        let number: u64 = end.trim_end_matches(TEMPORARY).parse().unwrap();
        // Other tests write files meanwhile.
        for number in number..number + 100 {
            fs::write(folder.path().join(format!("{start}-{number}{TEMPORARY}")), "left").unwrap();
        }
        write("test", &path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
