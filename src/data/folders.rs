//! Texts in a folder for each label.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

const OP: &str = "read_text_folders";

/// Reads the files `folder/label/*.txt`, in UTF-8 with or without a byte order mark, of each label: the label's place in `labels` and
/// the text, in the order of the labels and within each of the files' names. So lie the reviews of aclImdb, `train/pos/0_9.txt`.
///
/// ```no_run
/// use gatefold::data::read_text_folders;
/// for (label, text) in read_text_folders("aclImdb/train", &["neg", "pos"])? {
///     println!("{label} {text}");
/// }
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for a label without a folder, a file that cannot be read or is not UTF-8.
pub fn read_text_folders(folder: impl AsRef<Path>, labels: &[&str]) -> Result<Vec<(usize, String)>> {
    let mut texts = Vec::new();
    for (label, name) in labels.iter().enumerate() {
        let folder = folder.as_ref().join(name);
        let mut paths = paths(&folder).map_err(|e| Error::file(OP, &folder, e))?;
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "txt")) {
            let text = fs::read_to_string(path).map_err(|e| Error::file(OP, path, e))?;
            texts.push((label, text.strip_prefix('\u{feff}').unwrap_or(&text).into()));
        }
    }
    Ok(texts)
}

fn paths(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_of_labels_and_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("pos/b.txt", "c"), ("pos/a.txt", "\u{feff}b"), ("neg/z.txt", "a"), ("pos/notes.md", "no")]
        {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let read = read_text_folders(folder.path(), &["neg", "pos"]).unwrap();
        let want = [(0, "a"), (1, "b"), (1, "c")].map(|(label, text)| (label, text.to_string()));
        assert_eq!(read, want);
        let error = read_text_folders(folder.path(), &["neg", "unsup"]).unwrap_err().to_string();
        assert!(error.contains("unsup"), "{error}");
        fs::write(folder.path().join("pos/c.txt"), b"\xff").unwrap();
        let error = read_text_folders(folder.path(), &["pos"]).unwrap_err().to_string();
        assert!(error.contains("c.txt"), "{error}");
    }
}
