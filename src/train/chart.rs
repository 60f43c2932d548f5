//! Charts as SVG files.

use std::{fmt::Write, path::Path};

use super::Confusion;
use crate::{
    error::{Error, Result},
    file,
};

/// Lines over two axes, drawn as an SVG file that any browser shows.
///
/// ```
/// use gatefold::train::Chart;
/// let path = std::env::temp_dir().join(format!("gatefold-chart-{}.svg", std::process::id()));
/// let wave = |phase: f64| (0..100).map(move |i| (f64::from(i), (f64::from(i) / 10.0 + phase).sin()));
/// Chart::new("waves").axes("step", "height").line("sine", wave(0.0)).line("cosine", wave(1.57)).save(&path)?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    title: String,
    axes: (String, String),
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Of the picture, in pixels, and of what surrounds the axes: left, right, above, below.
const SIZE: (f64, f64) = (900.0, 420.0);
const MARGINS: (f64, f64, f64, f64) = (70.0, 20.0, 50.0, 50.0);
/// Colours that the colour-blind can tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

impl Chart {
    /// Without lines yet.
    pub fn new(title: impl Into<String>) -> Self {
        Chart { title: title.into(), axes: Default::default(), lines: Vec::new() }
    }

    /// What the axes mean.
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.axes = (x.into(), y.into());
        self
    }

    /// One line more, through points `(x, y)`; it is interrupted where one is not finite.
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push((name.into(), points.into_iter().collect()));
        self
    }

    /// Writes it, all or nothing.
    ///
    /// # Errors
    /// [`Error::Argument`] without a finite point; [`Error::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write("Chart::save", path.as_ref(), self.svg()?.as_bytes())
    }

    /// The text of the file.
    ///
    /// # Errors
    /// [`Error::Argument`] without a finite point.
    pub fn svg(&self) -> Result<String> {
        let points =
            || self.lines.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (Some(x), Some(y)) = (Axis::of(points().map(|p| p.0)), Axis::of(points().map(|p| p.1))) else {
            return Err(Error::argument("Chart", "no finite points", "at least one"));
        };
        let (left, right, top, bottom) = (MARGINS.0, SIZE.0 - MARGINS.1, MARGINS.2, SIZE.1 - MARGINS.3);
        let (px, py) = (|v| left + x.part(v) * (right - left), |v| bottom - y.part(v) * (bottom - top));
        let mut svg = head(SIZE.0, SIZE.1, &self.title);
        for (tick, label) in x.ticks() {
            let at = px(tick);
            _ = write!(svg, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
            _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0);
        }
        for (tick, label) in y.ticks() {
            let at = py(tick);
            _ = write!(svg, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>");
            _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, at + 4.0);
        }
        _ = writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#555\"/>");
        let (middle, height) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let (below, name) = (SIZE.1 - 12.0, escape(&self.axes.0));
        _ = writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{name}</text>");
        let turned = format!("transform=\"rotate(-90 16 {height})\" text-anchor=\"middle\"");
        _ = writeln!(svg, "<text x=\"16\" y=\"{height}\" {turned}>{}</text>", escape(&self.axes.1));

        let mut legend = left + 10.0;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let mut path = String::new();
            let mut pen = 'M';
            for &(a, b) in points {
                if a.is_finite() && b.is_finite() {
                    _ = write!(path, "{pen}{:.1} {:.1}", px(a), py(b));
                    pen = 'L';
                } else {
                    pen = 'M';
                }
            }
            _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>"
            );
            let (line, text) = (top - 12.0, top - 8.0);
            _ = write!(svg, "<path d=\"M{legend:.1} {line}h20\" stroke=\"{colour}\" stroke-width=\"3\"/>");
            _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{text}\">{}</text>", legend + 26.0, escape(name));
            legend += 50.0 + 7.5 * name.chars().count() as f64;
        }
        Ok(svg + "</svg>\n")
    }
}

impl Confusion {
    /// Draws the counts as an SVG file: a row for each class, the darker the greater the part of the class.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save_svg(&self, path: impl AsRef<Path>) -> Result<()> {
        let names = self.classes();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as f64;
        let (cell, edge) = (44.0, 40.0 + 8.0 * longest);
        let side = edge + cell * names.len() as f64 + 20.0;
        let mut svg = head(side, side + 30.0, "taken for");
        for (class, name) in names.iter().enumerate() {
            let (at, name) = (edge + cell * (class as f64 + 0.5), escape(name));
            _ = write!(svg, "<text x=\"{at}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", edge + 22.0);
            _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", edge - 8.0, at + 34.0);
            for prediction in 0..names.len() {
                let (x, y) = (edge + cell * prediction as f64, edge + 30.0 + cell * class as f64);
                let count = self.count(class, prediction);
                let part = count as f64 / self.support(class).max(1) as f64;
                let ink = if part > 0.5 { "#fff" } else { "#222" };
                _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell}\" height=\"{cell}\" fill=\"#0072b2\" fill-opacity=\"{part:.3}\" stroke=\"#ddd\"/>"
                );
                if count > 0 {
                    let (x, y) = (x + cell / 2.0, y + cell / 2.0 + 4.0);
                    _ = write!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"{ink}\">{count}</text>"
                    );
                }
                svg.push('\n');
            }
        }
        file::write("Confusion::save_svg", path.as_ref(), (svg + "</svg>\n").as_bytes())
    }
}

fn head(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{:.0}\" y=\"20\" text-anchor=\"middle\" font-size=\"15\">{}</text>\n",
        width / 2.0,
        escape(title)
    )
}

fn escape(text: &str) -> String {
    // Characters that XML cannot hold are left out.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A range with ticks at round numbers.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        // Halves, because the range of two finite numbers need not be finite.
        let half = high / 2.0 - low / 2.0;
        let margin = if half > 0.0 { 0.04 * half } else { 0.5 * low.abs().max(1.0) };
        let (low, high) = ((low - margin).max(f64::MIN / 4.0), (high + margin).min(f64::MAX / 4.0));
        let rough = (high - low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= rough).unwrap_or(rough);
        Some(Axis { low, high, step })
    }

    fn part(&self, value: f64) -> f64 {
        // Halves again.
        (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let first = (self.low / self.step).ceil();
        let ticks = (0..12).map(|i| (first + f64::from(i)) * self.step).take_while(|&tick| tick <= self.high);
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let label = |tick: f64| {
            if (1e-4..1e6).contains(&self.step) { format!("{tick:.decimals$}") } else { format!("{tick:.1e}") }
        };
        // Zero may come out as −0.
        ticks.map(|tick| (tick, label(if tick.abs() < self.step / 2.0 { 0.0 } else { tick }))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |low, high| {
            let ticks = Axis::of([low, high].into_iter()).unwrap().ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(0.0, 1.0), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(-1.0, 1.0), "-1.0 -0.5 0.0 0.5 1.0");
        assert_eq!(labels(0.0, 300.0), "0 100 200 300");
        assert_eq!(labels(3.0, 3.0), "1.5 2.0 2.5 3.0 3.5 4.0 4.5");
        assert_eq!(labels(0.0, 3e9), "0.0e0 1.0e9 2.0e9 3.0e9");
    }

    #[test]
    fn lines_are_drawn_and_interrupted() {
        let chart =
            Chart::new("a < b").axes("x & y", "").line("one", [(0.0, 0.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 2.0)]);
        let svg = chart.line("two", [(0.0, 1.0)]).svg().unwrap();
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y") && svg.ends_with("</svg>\n"), "{svg}");
        let line = svg.lines().find(|line| line.contains(COLOURS[0])).unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1), "{line}");
        assert!(Chart::new("").svg().is_err() && Chart::new("").line("", [(f64::NAN, 0.0)]).svg().is_err());
    }

    #[test]
    fn confusion_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.svg");
        let mut confusion = Confusion::new(["cat", "dog"]).unwrap();
        confusion.add(&[0, 1, 1], &[0, 1, 0]).unwrap();
        confusion.save_svg(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert_eq!((svg.matches("<rect").count(), svg.matches("fill-opacity=\"0.500\"").count()), (5, 2));
        assert!(confusion.save_svg(folder.path()).is_err());
    }

    #[test]
    fn the_greatest_numbers_are_drawn() {
        let svg = Chart::new("t").line("l", [(1.7798605613562224e308, f64::MIN), (0.0, f64::MAX)]).svg().unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    proptest! {
        #[test]
        fn any_points_are_drawn(points in proptest::collection::vec((any::<f64>(), any::<f64>()), 1..20)) {
            if let Ok(svg) = Chart::new("t").line("l", points).svg() {
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            }
        }
    }
}
