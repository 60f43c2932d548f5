//! Metrics: running means, accuracy, what was taken for what.

use std::fmt;

use crate::error::{Error, Result};

/// A mean that grows with its numbers.
///
/// ```
/// use gatefold::train::Mean;
/// let mut loss = Mean::new();
/// loss.add(0.5, 128); // the mean over a batch of 128
/// loss.add(0.2, 64);
/// assert!((loss.value() - 0.4).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Of nothing yet.
    pub fn new() -> Self {
        Mean::default()
    }

    /// Adds a value that is itself the mean of `count` samples; of none, whose mean is NaN, nothing.
    pub fn add(&mut self, value: f64, count: usize) {
        if count == 0 {
            return;
        }
        self.sum += value * count as f64;
        self.count += count as u64;
    }

    /// The mean of all samples; NaN of none.
    pub fn value(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// How many samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum and count: all of its state, for a checkpoint.
    pub fn state(&self) -> (f64, u64) {
        (self.sum, self.count)
    }

    /// The mean that [`state`](Self::state) described.
    pub fn from_state((sum, count): (f64, u64)) -> Self {
        Mean { sum, count }
    }
}

/// How often each class (row) was taken for each class (column).
///
/// ```
/// use gatefold::train::Confusion;
/// let mut confusion = Confusion::new(["cat", "dog"])?;
/// confusion.add(&[0, 1, 1, 1], &[0, 0, 1, 1])?; // what they were taken for, what they are
/// assert_eq!((confusion.accuracy(), confusion.recall(0), confusion.precision(1)), (0.75, 0.5, 2.0 / 3.0));
/// println!("{confusion}");
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// A precision, recall or F1 that divides by nothing (of a class that does not occur) is 0, as scikit-learn has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: Vec<String>,
    counts: Vec<u64>,
}

impl Confusion {
    /// Of classes with these names; nothing is counted yet.
    ///
    /// # Errors
    /// [`Error::Argument`] without classes.
    pub fn new<S: Into<String>>(classes: impl IntoIterator<Item = S>) -> Result<Self> {
        let classes: Vec<String> = classes.into_iter().map(Into::into).collect();
        if classes.is_empty() {
            return Err(Error::argument("Confusion::new", "no classes", "at least one"));
        }
        Ok(Confusion { counts: vec![0; classes.len() * classes.len()], classes })
    }

    /// Counts samples: the class that each was taken for, and its own, as [`Running::add`](super::Running::add) has them. Samples whose class
    /// is below 0, such as PyTorch's −100 for padding, are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] for lists of unequal lengths, [`Error::Argument`] for a class that there is not; nothing is counted then.
    pub fn add(&mut self, predictions: &[i64], targets: &[i64]) -> Result<()> {
        const OP: &str = "Confusion::add";
        if targets.len() != predictions.len() {
            let got = format!("{} predictions", predictions.len());
            return Err(Error::shape(OP, got, format!("{}, one for each target", targets.len())));
        }
        let classes = self.classes.len();
        let place = |class: i64| {
            let place = usize::try_from(class).ok().filter(|&place| place < classes);
            place.ok_or_else(|| Error::argument(OP, format!("class {class}"), format!("a class in 0..{classes}")))
        };
        let counted = targets.iter().zip(predictions).filter(|(target, _)| **target >= 0);
        let places = counted.map(|(&t, &p)| Ok(place(t)? * classes + place(p)?)).collect::<Result<Vec<_>>>()?;
        places.into_iter().for_each(|place| self.counts[place] += 1);
        Ok(())
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How often samples of `class` were taken for `prediction`; 0 for classes that there are not.
    pub fn count(&self, class: usize, prediction: usize) -> u64 {
        let classes = self.classes.len();
        if class < classes && prediction < classes { self.counts[class * classes + prediction] } else { 0 }
    }

    /// How many samples of `class` were counted.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes.len()).map(|prediction| self.count(class, prediction)).sum()
    }

    /// How many samples were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The part of all samples that was taken for what it is; NaN of none.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes.len()).map(|class| self.count(class, class)).sum();
        right as f64 / self.total() as f64
    }

    /// Of the samples that were taken for `class`, the part that is.
    pub fn precision(&self, class: usize) -> f64 {
        let taken = (0..self.classes.len()).map(|other| self.count(other, class)).sum();
        part(self.count(class, class), taken)
    }

    /// Of the samples of `class`, the part that was taken for it.
    pub fn recall(&self, class: usize) -> f64 {
        part(self.count(class, class), self.support(class))
    }

    /// The harmonic mean of [`precision`](Self::precision) and [`recall`](Self::recall).
    pub fn f1(&self, class: usize) -> f64 {
        let taken: u64 = (0..self.classes.len()).map(|other| self.count(other, class)).sum();
        part(2 * self.count(class, class), taken + self.support(class))
    }

    /// The mean of the classes' F1, each counting the same: of those that occur or were predicted, as in scikit-learn. NaN where nothing was
    /// counted.
    pub fn macro_f1(&self) -> f64 {
        self.mean_of_classes(|class| self.f1(class))
    }

    fn mean_of_classes(&self, of: impl Fn(usize) -> f64) -> f64 {
        let occurs = |&class: &usize| {
            (0..self.classes.len()).any(|other| self.count(class, other) + self.count(other, class) > 0)
        };
        let mut mean = Mean::new();
        (0..self.classes.len()).filter(occurs).for_each(|class| mean.add(of(class), 1));
        mean.value()
    }

    /// A table of precision, recall, F1 and support of each class, as scikit-learn's `classification_report`.
    pub fn report(&self) -> String {
        let width = self.width("macro average".len());
        let mut text = format!("{:width$}  precision  recall      f1  support\n", "class");
        for (class, name) in self.classes.iter().enumerate() {
            let (precision, recall, f1) = (self.precision(class), self.recall(class), self.f1(class));
            text += &format!(
                "{name:width$}  {precision:9.4}  {recall:6.4}  {f1:6.4}  {support:7}\n",
                support = self.support(class)
            );
        }
        let (precision, recall) =
            (self.mean_of_classes(|c| self.precision(c)), self.mean_of_classes(|c| self.recall(c)));
        text += &format!(
            "{:width$}  {precision:9.4}  {recall:6.4}  {:6.4}  {:7}\n",
            "macro average",
            self.macro_f1(),
            self.total()
        );
        text + &format!("accuracy {:.4}\n", self.accuracy())
    }

    fn width(&self, least: usize) -> usize {
        self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(least)
    }
}

fn part(of: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { of as f64 / all as f64 }
}

/// A table of the counts, a dot for none.
impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.counts.iter().max().map_or(1, |count| count.to_string().len());
        let (first, width) = (self.width("class".len()), self.width(digits.max(5)));
        write!(f, "{:first$}  taken for\n{:first$} ", "class", "")?;
        self.classes.iter().try_for_each(|name| write!(f, " {name:>width$}"))?;
        writeln!(f, "   recall")?;
        for (class, name) in self.classes.iter().enumerate() {
            write!(f, "{name:first$} ")?;
            for prediction in 0..self.classes.len() {
                match self.count(class, prediction) {
                    0 => write!(f, " {:>width$}", ".")?,
                    count => write!(f, " {count:width$}")?,
                }
            }
            writeln!(f, "  {:5.1} %", 100.0 * self.recall(class))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of scikit-learn 1.5, `classification_report` of these ten samples.
    #[test]
    fn three_classes() {
        let mut confusion = Confusion::new(["a", "b", "c"]).unwrap();
        confusion.add(&[0, 0, 0, 1, 1, 2, 2, 2, 2, 0], &[0, 0, 0, 0, 1, 1, 1, 2, 2, 2]).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        near(confusion.precision(0), 0.75);
        near(confusion.recall(0), 0.75);
        near(confusion.precision(1), 0.5);
        near(confusion.recall(1), 1.0 / 3.0);
        near(confusion.f1(1), 0.4);
        near(confusion.precision(2), 0.5);
        near(confusion.f1(2), 4.0 / 7.0);
        near(confusion.macro_f1(), (0.75 + 0.4 + 4.0 / 7.0) / 3.0);
        near(confusion.accuracy(), 0.6);
        assert_eq!((confusion.support(0), confusion.total(), confusion.count(0, 3)), (4, 10, 0));
    }

    /// As scikit-learn's `f1_score(average="macro")` of these: over classes 0, 1 and 3.
    #[test]
    fn classes_that_are_not_there() {
        let mut confusion = Confusion::new(["a", "b", "c", "d"]).unwrap();
        assert!(confusion.macro_f1().is_nan());
        confusion.add(&[0, 0, 1, 3], &[0, 0, 1, 1]).unwrap();
        assert!((confusion.macro_f1() - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert!(
            confusion.report().contains("macro average     0.6667  0.5000  0.5556        4\n"),
            "{}",
            confusion.report()
        );
    }

    #[test]
    fn padding_is_passed_over_and_faults_change_nothing() {
        let mut confusion = Confusion::new(["a", "b"]).unwrap();
        confusion.add(&[0, 1], &[-100, 1]).unwrap();
        let before = confusion.clone();
        assert!(matches!(confusion.add(&[0, 0], &[0, 2]), Err(Error::Argument { .. })));
        assert!(matches!(confusion.add(&[0, -1], &[0, 1]), Err(Error::Argument { .. })));
        assert!(matches!(confusion.add(&[0], &[0, 1]), Err(Error::Shape { .. })));
        assert_eq!(confusion, before);
        assert_eq!((confusion.total(), confusion.accuracy(), confusion.f1(0)), (1, 1.0, 0.0));
        assert!(Confusion::new(Vec::<String>::new()).is_err());
    }

    #[test]
    fn tables() {
        let mut confusion = Confusion::new(["cat", "dog"]).unwrap();
        confusion.add(&[0, 1, 1, 1], &[0, 0, 1, 1]).unwrap();
        let want =
            "class  taken for\n         cat   dog   recall\ncat        1     1   50.0 %\ndog        .     2  100.0 %\n";
        assert_eq!(confusion.to_string(), want);
        assert!(
            confusion.report().contains("dog               0.6667  1.0000  0.8000        2\n"),
            "{}",
            confusion.report()
        );
        assert!(confusion.report().ends_with("accuracy 0.7500\n"));
    }

    #[test]
    fn means() {
        let mut mean = Mean::new();
        assert!(mean.value().is_nan());
        mean.add(1.0, 3);
        mean.add(2.0, 1);
        assert_eq!((mean.value(), mean.count(), Mean::from_state(mean.state())), (1.25, 4, mean));
        mean.add(f64::NAN, 0);
        assert_eq!((mean.value(), mean.count()), (1.25, 4), "the mean of an empty batch");
    }
}
