//! Time series in the `.ts` format of the UEA and UCR archives.

use std::path::Path;

use crate::{
    error::{Error, Result},
    file::{self, Line, lines},
};

const OP: &str = "TimeSeries::read";

/// A set of time series of one or several channels, each with a class or a number to predict.
///
/// ```
/// use gatefold::data::TimeSeries;
/// let path = std::env::temp_dir().join(format!("gatefold-series-{}.ts", std::process::id()));
/// std::fs::write(&path, "@problemName steps\n@univariate false\n@classLabel true up down\n@data\n1,2:5,6:up\n3,2,1:8,?,6:down\n")?;
/// let set = TimeSeries::read(&path)?;
/// assert_eq!((set.channels, set.classes.as_slice()), (2, &["up".to_string(), "down".to_string()][..]));
/// assert_eq!(set.series[0].values, [1.0, 5.0, 2.0, 6.0]);
/// assert_eq!((set.series[1].len, set.series[1].class, set.missing), (3, Some(1), 1));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSeries {
    /// What the set is called.
    pub name: String,
    /// Channels of each series.
    pub channels: usize,
    /// Names of the classes; empty where there are none.
    pub classes: Vec<String>,
    /// The series in the order of the file.
    pub series: Vec<Series>,
    /// How many values are missing (`?`): they are NaN.
    pub missing: usize,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Values `(len, channels)` in row-major order.
    pub values: Vec<f32>,
    /// Steps in time.
    pub len: usize,
    /// Its class, an index into [`TimeSeries::classes`].
    pub class: Option<i64>,
    /// The number that belongs to it, in sets for regression.
    pub target: Option<f64>,
}

impl TimeSeries {
    /// Reads a `.ts` file, in UTF-8. Lines with `#` and blank ones are passed over.
    ///
    /// # Errors
    /// [`Error::File`], with line and column, for a file that cannot be read or has no series, a header that is malformed or does
    /// not fit what follows, a value that is not a number, a series whose channels differ in length, and for time stamps, which
    /// are not supported.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        parse(&file::read(OP, path)?).map_err(|reason| Error::file(OP, path, reason))
    }
}

#[derive(Default)]
struct Header {
    name: String,
    channels: Option<usize>,
    length: Option<usize>,
    classes: Option<Vec<String>>,
    target: bool,
}

fn parse(bytes: &[u8]) -> Result<TimeSeries, String> {
    let mut header = Header::default();
    let mut data = false;
    let mut set = TimeSeries { name: String::new(), channels: 0, classes: Vec::new(), series: Vec::new(), missing: 0 };
    for line in lines(bytes) {
        let line = line?;
        if line.text.trim().is_empty() || line.text.starts_with('#') {
        } else if data {
            series(line, &mut header, &mut set)?;
        } else if line.text.trim().eq_ignore_ascii_case("@data") {
            data = true;
        } else {
            header.read(line)?;
        }
    }
    if set.series.is_empty() {
        return Err(if data { "no series after @data" } else { "no @data" }.into());
    }
    set.name = header.name;
    set.channels = header.channels.unwrap_or(1);
    set.classes = header.classes.unwrap_or_default();
    Ok(set)
}

impl Header {
    fn read(&mut self, line: Line<'_>) -> Result<(), String> {
        let mut words = line.text.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
        let words: Vec<&str> = words.collect();
        let fault = |reason: String| line.fault(0, reason);
        let one = || match words.as_slice() {
            [word] => Ok(*word),
            _ => Err(fault(format!("{} values of {keyword}, want 1", words.len()))),
        };
        let number = || {
            let word = one()?;
            let number = word.parse().ok().filter(|&n: &usize| n > 0);
            number.ok_or_else(|| fault(format!("{keyword} {word:?}, want a number above 0")))
        };
        let truth = |word: &str| match word.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(fault(format!("{keyword} {word:?}, want true or false"))),
        };
        match keyword.as_str() {
            "@problemname" => self.name = words.join(" "),
            "@timestamps" => {
                if truth(one()?)? {
                    return Err(fault("time stamps are not supported".into()));
                }
            }
            "@missing" | "@equallength" => drop(truth(one()?)?),
            "@univariate" => {
                if truth(one()?)? {
                    self.channels = Some(1);
                }
            }
            "@dimension" | "@dimensions" => self.channels = Some(number()?),
            "@serieslength" => self.length = Some(number()?),
            "@classlabel" => match words.as_slice() {
                [yes, classes @ ..] if truth(yes)? => {
                    if classes.is_empty() {
                        return Err(fault("@classLabel true without classes".into()));
                    }
                    self.classes = Some(classes.iter().map(|class| class.to_string()).collect());
                }
                [_no] => {}
                _ => return Err(fault("want @classLabel false, or true and the classes".into())),
            },
            "@targetlabel" => self.target = truth(one()?)?,
            _ => return Err(fault(format!("{keyword:?}, want a keyword of the .ts format"))),
        }
        Ok(())
    }
}

fn series(line: Line<'_>, header: &mut Header, set: &mut TimeSeries) -> Result<(), String> {
    let mut channels: Vec<(usize, &str)> = line.split(':').collect();
    let labelled = header.classes.is_some() || header.target;
    let label = if labelled { channels.pop() } else { None };
    let want = *header.channels.get_or_insert(channels.len());
    if channels.len() != want || want == 0 {
        return Err(line.fault(
            0,
            format!("{} channels, want {want}{}", channels.len(), if labelled { " and a label" } else { "" }),
        ));
    }
    let mut columns: Vec<Vec<f32>> = Vec::with_capacity(want);
    for &(start, channel) in &channels {
        let mut values = Vec::new();
        let mut at = start;
        for text in channel.split(',') {
            let value = match text.trim() {
                "?" => {
                    set.missing += 1;
                    f32::NAN
                }
                number => number
                    .parse()
                    .ok()
                    .filter(|value: &f32| value.is_finite())
                    .ok_or_else(|| line.fault(at, format!("{text:?}, want a number or ?")))?,
            };
            values.push(value);
            at += text.len() + 1;
        }
        if let Some(first) = columns.first()
            && first.len() != values.len()
        {
            return Err(
                line.fault(start, format!("{} values, want {} as in the first channel", values.len(), first.len()))
            );
        }
        columns.push(values);
    }
    let len = columns[0].len();
    if let Some(length) = header.length.filter(|&length| length != len) {
        return Err(line.fault(0, format!("{len} steps, want the {length} of @seriesLength")));
    }
    let (mut class, mut target) = (None, None);
    if let Some((at, text)) = label {
        let text = text.trim();
        match &header.classes {
            Some(classes) => {
                let found = classes.iter().position(|class| class == text);
                let found = found.ok_or_else(|| line.fault(at, format!("class {text:?}, want one of {classes:?}")))?;
                class = Some(found as i64);
            }
            None => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                target = Some(number.ok_or_else(|| line.fault(at, format!("{text:?}, want a number")))?);
            }
        }
    }
    let values = (0..len).flat_map(|step| columns.iter().map(move |column| column[step])).collect();
    set.series.push(Series { values, len, class, target });
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn univariate_and_regression() {
        let set = parse(
            b"# x\r\n@PROBLEMNAME a b\r\n@univariate true\r\n@targetlabel true\r\n\r\n@DATA\r\n1, 2:0.5\r\n3:-1e3",
        )
        .unwrap();
        assert_eq!((set.name.as_str(), set.channels, set.series.len()), ("a b", 1, 2));
        assert_eq!(set.series[0], Series { values: vec![1.0, 2.0], len: 2, class: None, target: Some(0.5) });
        assert_eq!(set.series[1].target, Some(-1000.0));
        let set = parse(b"@data\n1,2:3,4").unwrap();
        assert_eq!((set.channels, set.series[0].values.as_slice()), (2, &[1.0, 3.0, 2.0, 4.0][..]));
    }

    #[test]
    fn faults_are_located() {
        let head = "@dimensions 2\n@classLabel true a b\n@data\n";
        for (text, want) in [
            (String::new(), "no @data"),
            (head.into(), "no series"),
            ("@data\n".into(), "no series"),
            ("hello".into(), "line 1, column 1: \"hello\", want a keyword"),
            ("@dimensions two".into(), "line 1, column 1: @dimensions \"two\""),
            ("@dimensions 0".into(), "line 1, column 1: @dimensions \"0\""),
            ("@timestamps true".into(), "line 1, column 1: time stamps"),
            ("@missing maybe".into(), "line 1, column 1: @missing \"maybe\""),
            ("@classlabel true".into(), "line 1, column 1: @classLabel true without"),
            (format!("{head}1:2:c"), "line 4, column 5: class \"c\", want one of [\"a\", \"b\"]"),
            (format!("{head}1:a"), "line 4, column 1: 1 channels, want 2 and a label"),
            (format!("{head}1,2:3:a"), "line 4, column 5: 1 values, want 2"),
            (format!("{head}1,x:3,4:a"), "line 4, column 3: \"x\", want a number or ?"),
            (format!("{head}1,2:3,:a"), "line 4, column 7: \"\", want a number or ?"),
            ("@serieslength 3\n@data\n1,2".into(), "line 3, column 1: 2 steps, want the 3"),
            ("@targetlabel true\n@data\n1,2:x".into(), "line 3, column 5: \"x\", want a number"),
        ] {
            let got = parse(text.as_bytes()).unwrap_err();
            assert!(got.starts_with(want), "{got:?} is not {want:?}");
        }
        assert!(TimeSeries::read("/no/such/file").is_err());
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_series(text in "(@[a-z]{1,12} (true|false|[0-9])\n){0,3}@data\n([0-9,:?. a]{0,9}\n){0,4}") {
            if let Ok(set) = parse(text.as_bytes()) {
                prop_assert!(set.series.iter().all(|series| series.values.len() == series.len * set.channels && series.len > 0));
            }
        }
    }
}
