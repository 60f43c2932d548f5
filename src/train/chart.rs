//! Curves and the confusion matrix, drawn.

use std::path::Path;

use super::{
    Confusion,
    picture::{Anchor, Colour, FRAME, GRID, INK, Picture, WHITE},
};
use crate::error::{Error, Result};

/// Lines over two axes, drawn as an SVG file that any browser shows, or as a PNG file with the feature `plotters`.
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
const COLOURS: [Colour; 7] = [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x000000];

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

    /// Writes it, all or nothing: an SVG file where the path ends in `.svg`, a PNG file of 1800 × 840 pixels where it ends in `.png`.
    /// The latter needs the feature `plotters` and has its text in DejaVu Sans, which has no Chinese, Japanese or Korean.
    ///
    /// # Errors
    /// [`Error::Argument`] without a finite point, for another ending and for `.png` without the feature; [`Error::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.picture()?.save("Chart::save", path.as_ref())
    }

    /// The text of the SVG file.
    ///
    /// # Errors
    /// [`Error::Argument`] without a finite point.
    pub fn svg(&self) -> Result<String> {
        Ok(self.picture()?.svg())
    }

    fn picture(&self) -> Result<Picture> {
        let points =
            || self.lines.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (Some(x), Some(y)) = (Axis::of(points().map(|p| p.0)), Axis::of(points().map(|p| p.1))) else {
            return Err(Error::argument("Chart", "no finite points", "at least one"));
        };
        let (left, right, top, bottom) = (MARGINS.0, SIZE.0 - MARGINS.1, MARGINS.2, SIZE.1 - MARGINS.3);
        let (px, py) = (|v| left + x.part(v) * (right - left), |v| bottom - y.part(v) * (bottom - top));
        let mut picture = Picture::new(SIZE.0, SIZE.1, &self.title);
        for (tick, label) in x.ticks() {
            let at = px(tick);
            picture.line([(at, top), (at, bottom)], GRID, 1.0);
            picture.text((at, bottom + 18.0), &label, Anchor::Middle, INK);
        }
        for (tick, label) in y.ticks() {
            let at = py(tick);
            picture.line([(left, at), (right, at)], GRID, 1.0);
            picture.text((left - 6.0, at + 4.0), &label, Anchor::End, INK);
        }
        picture.line([(left, top), (left, bottom), (right, bottom)], FRAME, 1.0);
        picture.text(((left + right) / 2.0, SIZE.1 - 12.0), &self.axes.0, Anchor::Middle, INK);
        picture.turned((16.0, (top + bottom) / 2.0), &self.axes.1);

        let mut legend = left + 10.0;
        for ((name, points), &colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let pieces = points.split(|(a, b)| !a.is_finite() || !b.is_finite()).filter(|piece| !piece.is_empty());
            let pieces = pieces.map(|piece| piece.iter().map(|&(a, b)| (px(a), py(b))).collect());
            picture.lines(pieces.collect(), colour, 1.6);
            picture.line([(legend, top - 12.0), (legend + 20.0, top - 12.0)], colour, 3.0);
            picture.text((legend + 26.0, top - 8.0), name, Anchor::Start, INK);
            legend += 50.0 + 7.5 * name.chars().count() as f64;
        }
        Ok(picture)
    }
}

impl Confusion {
    /// Draws the counts: a row for each class, the darker the greater the part of the class. An SVG file where the path ends in
    /// `.svg`, a PNG file where it ends in `.png`, as [`Chart::save`] has it.
    ///
    /// # Errors
    /// [`Error::Argument`] for another ending, for `.png` without the feature `plotters`, and for a PNG file of more than 16384
    /// pixels a side (about 180 classes); [`Error::File`].
    pub fn save_plot(&self, path: impl AsRef<Path>) -> Result<()> {
        self.picture().save("Confusion::save_plot", path.as_ref())
    }

    fn picture(&self) -> Picture {
        let names = self.classes();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as f64;
        let (cell, edge) = (44.0, 40.0 + 8.0 * longest);
        let side = edge + cell * names.len() as f64 + 20.0;
        let mut picture = Picture::new(side, side + 30.0, "taken for");
        for (class, name) in names.iter().enumerate() {
            let at = edge + cell * (class as f64 + 0.5);
            picture.text((at, edge + 22.0), name, Anchor::Middle, INK);
            picture.text((edge - 8.0, at + 34.0), name, Anchor::End, INK);
            for prediction in 0..names.len() {
                let (x, y) = (edge + cell * prediction as f64, edge + 30.0 + cell * class as f64);
                let count = self.count(class, prediction);
                let part = count as f64 / self.support(class).max(1) as f64;
                picture.square((x, y), cell, COLOURS[0], part);
                if count > 0 {
                    let ink = if part > 0.5 { WHITE } else { INK };
                    picture.text((x + cell / 2.0, y + cell / 2.0 + 4.0), &count.to_string(), Anchor::Middle, ink);
                }
            }
        }
        picture
    }
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
        let line = svg.lines().find(|line| line.contains(&format!("{:06x}", COLOURS[0]))).unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1), "{line}");
        assert!(Chart::new("").svg().is_err() && Chart::new("").line("", [(f64::NAN, 0.0)]).svg().is_err());
    }

    #[test]
    fn confusion_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.svg");
        let mut confusion = Confusion::new(["cat", "dog"]).unwrap();
        confusion.add(&[0, 1, 0], &[0, 1, 1]).unwrap();
        confusion.save_plot(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert_eq!((svg.matches("<rect").count(), svg.matches("fill-opacity=\"0.500\"").count()), (5, 2));
        assert!(confusion.save_plot(folder.path()).is_err());
    }

    #[test]
    fn other_endings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let chart = Chart::new("t").line("l", [(0.0, 0.0), (1.0, 1.0)]);
        for (name, ending) in [("a.jpg", "the ending .jpg"), ("a", "no ending"), (".svg", "no ending")] {
            let error = chart.save(folder.path().join(name)).unwrap_err().to_string();
            assert!(
                error.contains(ending) && error.contains("Chart::save") && error.contains(".svg or .png"),
                "{error}"
            );
            assert!(Confusion::new(["a", "b"]).unwrap().save_plot(folder.path().join(name)).is_err());
        }
        chart.save(folder.path().join("a.SVG")).unwrap();
        let error = chart.save(folder.path().join("a.png")).err().map(|error| error.to_string());
        assert_eq!(error.is_none(), cfg!(feature = "plotters"));
        assert!(error.is_none_or(|error| error.contains("feature `plotters`")));
        let found = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(found, 1 + usize::from(cfg!(feature = "plotters")), "nothing else was written");
    }

    #[cfg(feature = "plotters")]
    mod png {
        use std::{fs::File, io::BufReader};

        use super::*;

        struct Image {
            size: (u32, u32),
            pixels: Vec<[u8; 3]>,
        }

        impl Image {
            fn read(path: &Path) -> Image {
                let mut reader = ::png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
                let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
                let info = reader.next_frame(&mut bytes).unwrap();
                assert_eq!((info.color_type, info.bit_depth), (::png::ColorType::Rgb, ::png::BitDepth::Eight));
                Image { size: (info.width, info.height), pixels: bytes.as_chunks().0.to_vec() }
            }

            /// Places of a colour within a rectangle, in the units of the picture.
            fn places(&self, colour: Colour, x: (u32, u32), y: (u32, u32)) -> Vec<(u32, u32)> {
                let [_, rgb @ ..] = colour.to_be_bytes();
                let rows = (2 * y.0..2 * y.1).flat_map(|y| (2 * x.0..2 * x.1).map(move |x| (x, y)));
                rows.filter(|&(x, y)| self.pixels[(y * self.size.0 + x) as usize] == rgb).collect()
            }

            fn count(&self, colour: Colour, x: (u32, u32), y: (u32, u32)) -> usize {
                self.places(colour, x, y).len()
            }
        }

        #[test]
        fn lines() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("lines.png");
            let wave =
                (0..1000).map(|i| (f64::from(i) / 999.0, if i == 500 { f64::NAN } else { (f64::from(i) / 9.0).sin() }));
            let constant = |at| [(0.0, at), (1.0, at)];
            let draw = |title: &str| {
                let chart = Chart::new(title).axes("step", "height of the wave").line("wave", wave.clone());
                chart.line("low", constant(-1.0)).line("one point", [(0.5, 0.5)]).save(&path).unwrap();
                Image::read(&path)
            };
            let (image, (width, height)) = (draw("waves"), (900, 420));
            assert_eq!(image.size, (1800, 840));
            let all = |colour| image.count(colour, (0, width), (0, height));
            assert!(all(WHITE) > image.pixels.len() / 2 && all(GRID) > 5000);
            let (top, bottom, left, right) = (50, 370, 70, 880);
            assert!(image.count(COLOURS[0], (left, right), (top, bottom)) > 5000);
            // The margin is a fiftieth of the range: 320 / 1.04 · 0.02 above the axis.
            let low = image.places(COLOURS[1], (left, right), (top, bottom));
            assert!(low.len() > 2 * 750 * 3 && low.iter().all(|&(_, y)| (724..=732).contains(&y)), "{low:?}");
            assert_eq!(image.count(COLOURS[2], (left, right), (top, bottom)), 0);
            assert!(image.count(COLOURS[2], (left, right), (30, top)) > 2 * 20 * 5, "the legend");

            // Text: dark pixels where it belongs, none beside it, upright and turned.
            let span = |places: Vec<(u32, u32)>, axis: fn(&(u32, u32)) -> u32| {
                let along = || places.iter().map(axis);
                along().max().unwrap() - along().min().unwrap()
            };
            let title = image.places(INK, (0, width), (5, 27));
            assert!(title.iter().all(|&(x, y)| x.abs_diff(900) < 100 && (14..=50).contains(&y)), "{title:?}");
            let widths =
                (span(title, |p| p.0), span(draw("waves upon waves").places(INK, (0, width), (5, 27)), |p| p.0));
            assert!(widths.0 > 50 && widths.1 > 2 * widths.0, "{widths:?}");
            let name = image.places(INK, (0, 30), (0, height));
            assert!(name.iter().all(|&(x, y)| x <= 40 && y.abs_diff(420) < 160), "{name:?}");
            assert!(span(name.clone(), |p| p.1) > 150 && span(name, |p| p.0) < 30);
            assert!(image.count(INK, (left - 40, left - 4), (top, bottom)) > 100, "ticks");
        }

        #[test]
        fn confusion() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("confusion.PNG");
            let mut confusion = Confusion::new(["cat", "dog"]).unwrap();
            confusion.add(&[0, 1, 0], &[0, 1, 1]).unwrap();
            confusion.save_plot(&path).unwrap();
            let image = Image::read(&path);
            // Side 40 + 3 · 8 + 2 · 44 + 20 by 30 more; cells of 44 from (64, 94).
            assert_eq!(image.size, (2 * 172, 2 * 202));
            let cell = |colour, row: u32, column: u32| {
                let (x, y) = (64 + 44 * column, 94 + 44 * row);
                image.count(colour, (x + 2, x + 42), (y + 2, y + 42))
            };
            let half = 0x7fb8d8;
            assert!(cell(COLOURS[0], 0, 0) > 5500 && cell(WHITE, 0, 0) > 10);
            assert_eq!(cell(WHITE, 0, 1), 80 * 80);
            assert!(cell(half, 1, 0) > 5500 && cell(half, 1, 1) > 5500 && cell(INK, 1, 0) > 10);

            let many = Confusion::new((0..400).map(|i| i.to_string())).unwrap();
            let error = many.save_plot(&path).unwrap_err().to_string();
            assert!(error.contains("at most 16384"), "{error}");
        }
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
