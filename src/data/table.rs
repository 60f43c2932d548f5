//! Tables: files of values that commas, tabs or other characters separate.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use crate::{
    error::{Error, Result},
    file,
};

const OP: &str = "Table::read";

/// What stands for a number that is missing.
const MISSING: [&str; 7] = ["", "NA", "N/A", "NaN", "nan", "null", "?"];

/// A table of text with named columns.
///
/// ```
/// use gatefold::data::Table;
/// let path = std::env::temp_dir().join(format!("gatefold-table-{}.csv", std::process::id()));
/// std::fs::write(&path, "hour,temp\n1,39.02\n2,NA\n")?;
/// let table = Table::csv(&path)?;
/// assert_eq!(table.text("hour")?, ["1", "2"]);
/// assert_eq!(table.numbers_or_missing("temp")?, [Some(39.02), None]);
/// let error = table.numbers("temp").unwrap_err().to_string();
/// assert!(error.ends_with("line 3, column 2 (temp): \"NA\", want a number"), "{error}");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<StringRecord>,
}

/// How a [`Table`] is read.
#[derive(Debug, Clone)]
pub struct TableReader {
    delimiter: u8,
    quoting: bool,
    header: bool,
}

impl Default for TableReader {
    fn default() -> Self {
        TableReader::new()
    }
}

impl TableReader {
    /// Commas between values, values in quotation marks or not (RFC 4180), the names of the columns in the first line.
    pub fn new() -> Self {
        TableReader { delimiter: b',', quoting: true, header: true }
    }

    /// The character between values, in ASCII.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Whether a value may stand in quotation marks; if not they are characters as any other.
    pub fn quoting(mut self, quoting: bool) -> Self {
        self.quoting = quoting;
        self
    }

    /// Whether the first line names the columns; if not they are called 1, 2, ….
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// Reads a table, in UTF-8 with or without a byte order mark. Empty lines are passed over.
    ///
    /// # Errors
    /// [`Error::File`], with the line, for a file that cannot be read, bytes that are not UTF-8, a quotation mark that is not closed before
    /// the file ends, a line with more or fewer values than the first, two columns of one name, or no lines at all; [`Error::Argument`]
    /// for a delimiter that is a quotation mark, a line end or not ASCII.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Table> {
        if !self.delimiter.is_ascii() || b"\"\r\n".contains(&self.delimiter) {
            return Err(Error::argument(
                OP,
                format!("delimiter {:?}", self.delimiter as char),
                "another ASCII character",
            ));
        }
        let path = path.as_ref();
        let bytes = file::read(OP, path)?;
        let (header, rows) = self.parse(&bytes).map_err(|reason| Error::file(OP, path, reason))?;
        Ok(Table { path: path.into(), header, rows })
    }

    fn parse(&self, bytes: &[u8]) -> Result<(Vec<String>, Vec<StringRecord>), String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if self.quoting
            && let Some(line) = self.unclosed(bytes)
        {
            return Err(format!("line {line}: a value in quotation marks that are not closed before the file ends"));
        }
        let mut reader =
            ReaderBuilder::new().delimiter(self.delimiter).quoting(self.quoting).has_headers(false).from_reader(bytes);
        let mut rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(|e| reason(&e))?.into_iter();
        let first = rows.as_slice().first().ok_or("no lines, want a table")?;
        let header: Vec<String> = if self.header {
            rows.next().iter().flatten().map(str::to_owned).collect()
        } else {
            (1..=first.len()).map(|n| n.to_string()).collect()
        };
        let mut seen = HashSet::new();
        if let Some(at) = header.iter().position(|name| !seen.insert(name)) {
            return Err(format!("line 1, column {}: the name {:?} a second time", at + 1, header[at]));
        }
        Ok((header, rows.collect()))
    }

    /// The line where a value begins whose quotation mark is not closed: `csv` would take all that is left of the file for its.
    fn unclosed(&self, bytes: &[u8]) -> Option<usize> {
        let (mut line, mut began, mut fresh) = (1, None, true);
        let mut rest = bytes.iter().copied().peekable();
        while let Some(byte) = rest.next() {
            if byte != b'"' {
                // Marks within a value that does not begin with one are characters.
                fresh = began.is_none() && (byte == self.delimiter || byte == b'\r' || byte == b'\n');
                line += usize::from(byte == b'\n');
            } else if began.is_none() {
                began = fresh.then_some(line);
            } else if rest.next_if_eq(&b'"').is_none() {
                // Two would be one that belongs to the value.
                (began, fresh) = (None, false);
            }
        }
        began
    }
}

fn reason(error: &csv::Error) -> String {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        ErrorKind::Utf8 { err, .. } => format!("line {line}, column {}: not UTF-8", err.field() + 1),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let column = len.min(expected_len) + 1;
            format!("line {line}, column {column}: {len} values, want {expected_len} as in the first line")
        }
        _ => error.to_string(),
    }
}

impl Table {
    /// Reads values with commas between them: [`TableReader::new`].
    ///
    /// # Errors
    /// As [`TableReader::read`].
    pub fn csv(path: impl AsRef<Path>) -> Result<Self> {
        TableReader::new().read(path)
    }

    /// Reads values with tabs between them, in which quotation marks mean nothing.
    ///
    /// # Errors
    /// As [`TableReader::read`].
    pub fn tsv(path: impl AsRef<Path>) -> Result<Self> {
        TableReader::new().delimiter(b'\t').quoting(false).read(path)
    }

    /// The names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// How many rows it has, besides the names.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A column as it stands.
    ///
    /// # Errors
    /// [`Error::File`] where there is no column of this name.
    pub fn text(&self, column: &str) -> Result<Vec<&str>> {
        let at = self.column(column)?;
        Ok(self.rows.iter().map(|row| &row[at]).collect())
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// [`Error::File`] where there is no column of this name, and for a value that is not a finite number.
    pub fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        let at = self.column(column)?;
        self.rows.iter().map(|row| self.number(row, at)).collect()
    }

    /// A column of numbers some of which are missing: nothing, `NA`, `N/A`, `NaN`, `nan`, `null` or `?`.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers), for other values.
    pub fn numbers_or_missing(&self, column: &str) -> Result<Vec<Option<f64>>> {
        let at = self.column(column)?;
        let value = |row: &StringRecord| {
            if MISSING.contains(&row[at].trim()) { Ok(None) } else { self.number(row, at).map(Some) }
        };
        self.rows.iter().map(value).collect()
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|column| column == name).ok_or_else(|| {
            Error::file("Table", &self.path, format!("no column {name:?}, want one of {:?}", self.header))
        })
    }

    fn number(&self, row: &StringRecord, at: usize) -> Result<f64> {
        let number = row[at].trim().parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| {
            let line = row.position().map_or(0, csv::Position::line);
            let place = format!("line {line}, column {} ({})", at + 1, self.header[at]);
            Error::file("Table", &self.path, format!("{place}: {:?}, want a number", &row[at]))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(reader: TableReader, bytes: &[u8]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        std::fs::write(&path, bytes).unwrap();
        reader.read(&path)
    }

    #[test]
    fn quoted_and_not() {
        let table = read(TableReader::new(), b"\xef\xbb\xbfa,b\r\n\"x, \"\"y\"\"\nz\",1\r\n\n w ,2").unwrap();
        assert_eq!((table.header(), table.len()), (&["a".to_string(), "b".to_string()][..], 2));
        assert_eq!(table.text("a").unwrap(), ["x, \"y\"\nz", " w "]);
        assert_eq!(table.numbers("b").unwrap(), [1.0, 2.0]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.tsv");
        std::fs::write(&path, "a\tb, c\n\"x\t1,5\n").unwrap();
        let table = Table::tsv(&path).unwrap();
        assert_eq!((table.header(), table.len()), (&["a".to_string(), "b, c".to_string()][..], 1));
        assert_eq!((table.text("a").unwrap(), table.text("b, c").unwrap()), (vec!["\"x"], vec!["1,5"]));
        let tabs = TableReader::new().delimiter(b'\t').quoting(false).header(false);
        let table = read(tabs, b"\"a\tb\nc\"\t?").unwrap();
        assert_eq!(table.text("1").unwrap(), ["\"a", "c\""]);
    }

    #[test]
    fn faults_are_located() {
        let reason = |bytes: &[u8]| match read(TableReader::new(), bytes) {
            Err(Error::File { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(b""), "no lines, want a table");
        assert_eq!(reason(b"a,b\n1,2\n3\n"), "line 3, column 2: 1 values, want 2 as in the first line");
        assert_eq!(reason(b"a,b\n1,2,3\n"), "line 2, column 3: 3 values, want 2 as in the first line");
        assert_eq!(reason(b"a,b\n1,\xff\n"), "line 2, column 2: not UTF-8");
        let unclosed = "a value in quotation marks that are not closed before the file ends";
        assert_eq!(reason(b"a,b\n1,2\n3,\"x\n4,5\n"), format!("line 3: {unclosed}"));
        assert_eq!(reason(b"a,b\n\"x\ny\",2\r\n3,\"\"\"\"\"\n\n"), format!("line 4: {unclosed}"));
        assert_eq!(reason(b"\""), format!("line 1: {unclosed}"));
        assert_eq!(reason(b"a,a\n1,2\n"), "line 1, column 2: the name \"a\" a second time");
        let table = read(TableReader::new(), b"a,b\n5\",\"x\" \"\n\"\",\"\"\"\"").unwrap();
        assert_eq!((table.text("a").unwrap(), table.text("b").unwrap()), (vec!["5\"", ""], vec!["x \"", "\""]));
        let table = read(TableReader::new(), b"a,b\n\"x\ny\",inf\n2,1e3\n").unwrap();
        assert!(table.numbers("b").unwrap_err().to_string().contains("line 2, column 2 (b): \"inf\", want a number"));
        assert!(table.numbers_or_missing("a").unwrap_err().to_string().contains("line 2, column 1 (a)"));
        assert!(table.text("c").unwrap_err().to_string().contains("no column \"c\", want one of [\"a\", \"b\"]"));
        assert!(read(TableReader::new().delimiter(b'\n'), b"a").is_err());
        assert!(Table::csv("/no/such/file").is_err());
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_a_table(bytes in proptest::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), any::<u8>()], 0..200)) {
            if let Ok(table) = read(TableReader::new(), &bytes) {
                for name in table.header() {
                    prop_assert_eq!(table.text(name).unwrap().len(), table.len());
                }
                // Every value is closed, so a further line end is in none.
                let ended = read(TableReader::new(), &[&bytes[..], b"\n"].concat()).unwrap();
                prop_assert_eq!((ended.header, ended.rows), (table.header, table.rows));
            }
        }
    }
}
