//! Files: written whole or not at all, and read line by line with the place of a fault.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::{Error, Result};

/// Writes a file beside `path` under another name, synchronises it and renames it: whenever the machine stops, `path` is the old
/// file or the new one. Where `path` is a symbolic link that is the file it leads to; what is there and no regular file is an `Err`, as
/// the renaming would put a file in its place.
pub(crate) fn write(op: &'static str, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |reason: &dyn Display| Error::file(op, path, reason);
    let target = target(path).map_err(|e| fail(&e))?;
    if fs::metadata(&target).is_ok_and(|there| !there.is_file()) {
        return Err(fail(&"not a regular file"));
    }
    let path = target.as_path();
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

/// Where symbolic links lead to, whether there is a file at their end or not yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            // A relative one counts from its own folder; of an absolute one `join` takes that alone.
            Ok(next) => path = path.parent().map_or_else(|| next.clone(), |folder| folder.join(&next)),
            // No link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links, one to the next"))
}

/// The bytes of a regular file; a folder or a device is an `Err`.
pub(crate) fn read(op: &'static str, path: &Path) -> Result<Vec<u8>> {
    regular(path).and_then(|()| fs::read(path)).map_err(|e| Error::file(op, path, e))
}

/// A regular file whose bytes come as they are asked for.
pub(crate) fn open(op: &'static str, path: &Path) -> Result<BufReader<File>> {
    let file = regular(path).and_then(|()| File::open(path));
    Ok(BufReader::new(file.map_err(|e| Error::file(op, path, e))?))
}

fn regular(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
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

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a text in UTF-8, with line ends of Unix or Windows, without a byte order mark. Behind the last line end there is
/// one more, empty line.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<Line<'_>, String>> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.split(|&byte| byte == b'\n').enumerate().map(|(i, bytes)| line(i + 1, bytes))
}

/// Hands on the lines of a text that need not fit into memory: as [`lines`], but for the last, empty one.
pub(crate) fn each_line(
    mut from: impl BufRead,
    mut take: impl FnMut(Line<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if from.read_until(b'\n', &mut bytes).map_err(|e| e.to_string())? == 0 {
            break;
        }
        let start = if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        take(line(number, bytes[start..].strip_suffix(b"\n").unwrap_or(&bytes[start..]))?)?;
    }
    Ok(())
}

/// A line of what is before its line feed.
fn line(number: usize, bytes: &[u8]) -> Result<Line<'_>, String> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Line { number, text }),
        Err(error) => Err(place(number, &String::from_utf8_lossy(&bytes[..error.valid_up_to()]), "not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link stays one, and what is no regular file stays what it is.
    #[cfg(unix)]
    #[test]
    fn links_and_devices() {
        use std::os::unix::{fs::FileTypeExt, fs::symlink, net::UnixListener};
        let folder = tempfile::tempdir().unwrap();
        let [model, link, chain, socket] = ["model", "link", "chain", "socket"].map(|name| folder.path().join(name));
        symlink("model", &link).unwrap();
        symlink(&link, &chain).unwrap();
        for (path, text) in [(&chain, "first"), (&link, "second")] {
            write("test", path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&model).unwrap(), text);
            assert!([&link, &chain].iter().all(|path| path.is_symlink()) && !model.is_symlink());
        }
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(write("test", &socket, b"whole").is_err());
        assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
        let looped = folder.path().join("loop");
        symlink("loop", &looped).unwrap();
        assert!(write("test", &looped, b"whole").is_err());
        assert!(write("test", folder.path(), b"whole").is_err());
    }

    /// Read as a whole or line by line.
    #[test]
    fn lines_of_both_kinds() {
        for text in ["", "a", "a\n", "\u{feff}a\r\n\nb \u{feff}\r", "\n\n", "\u{feff}"] {
            let mut all: Vec<_> =
                lines(text.as_bytes()).map(|line| line.unwrap()).map(|l| (l.number, l.text.to_string())).collect();
            if text.is_empty() || text.ends_with('\n') {
                all.pop();
            }
            let mut each = Vec::new();
            // A reader that has a byte at a time.
            let bytes = BufReader::with_capacity(1, text.as_bytes());
            each_line(bytes, |line| {
                each.push((line.number, line.text.to_string()));
                Ok(())
            })
            .unwrap();
            assert_eq!(each, all, "{text:?}");
        }
        let wrong = b"a\n\xc3\xa4\xff\n";
        let want = "line 2, column 2: not UTF-8";
        assert_eq!(lines(wrong).find_map(Result::err).unwrap(), want);
        assert_eq!(each_line(&wrong[..], |_| Ok(())).unwrap_err(), want);
        assert_eq!(each_line(&b"a\nb"[..], |line| Err(line.fault(0, "no"))).unwrap_err(), "line 1, column 1: no");
    }

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
