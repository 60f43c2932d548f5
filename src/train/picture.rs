//! What charts are drawn on: shapes, written as an SVG or as a PNG file.

use std::{fmt::Write, path::Path};

use crate::{
    error::{Error, Result},
    file,
};

/// `0xrrggbb`.
pub(super) type Colour = u32;
pub(super) const WHITE: Colour = 0xffffff;
pub(super) const INK: Colour = 0x222222;
pub(super) const GRID: Colour = 0xdddddd;
pub(super) const FRAME: Colour = 0x555555;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

enum Shape {
    /// Through the points of each piece.
    Line { pieces: Vec<Vec<(f64, f64)>>, colour: Colour, width: f64 },
    /// Its upper left corner and side; `part` of the colour on white, from 0 to 1.
    Square { at: (f64, f64), side: f64, colour: Colour, part: f64 },
    /// Where its baseline begins, has its middle or ends; turned it is read upwards.
    Text { at: (f64, f64), text: String, anchor: Anchor, size: f64, colour: Colour, turned: bool },
}

/// Shapes on white, the later above the earlier, in units that are an SVG's pixels and half a PNG's.
pub(super) struct Picture {
    width: f64,
    height: f64,
    shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut picture = Picture { width, height, shapes: Vec::new() };
        picture.write((width / 2.0, 20.0), title, Anchor::Middle, 15.0, INK, false);
        picture
    }

    pub(super) fn line(&mut self, points: impl Into<Vec<(f64, f64)>>, colour: Colour, width: f64) {
        self.lines(vec![points.into()], colour, width);
    }

    pub(super) fn lines(&mut self, pieces: Vec<Vec<(f64, f64)>>, colour: Colour, width: f64) {
        self.shapes.push(Shape::Line { pieces, colour, width });
    }

    pub(super) fn square(&mut self, at: (f64, f64), side: f64, colour: Colour, part: f64) {
        self.shapes.push(Shape::Square { at, side, colour, part });
    }

    pub(super) fn text(&mut self, at: (f64, f64), text: &str, anchor: Anchor, colour: Colour) {
        self.write(at, text, anchor, 12.0, colour, false);
    }

    pub(super) fn turned(&mut self, at: (f64, f64), text: &str) {
        self.write(at, text, Anchor::Middle, 12.0, INK, true);
    }

    fn write(&mut self, at: (f64, f64), text: &str, anchor: Anchor, size: f64, colour: Colour, turned: bool) {
        // Characters that XML cannot hold and fonts do not draw.
        let text = text.chars().filter(|c| !c.is_control()).collect();
        self.shapes.push(Shape::Text { at, text, anchor, size, colour, turned });
    }

    /// Writes the kind of file that the path's ending names, all or nothing.
    pub(super) fn save(&self, op: &'static str, path: &Path) -> Result<()> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let bytes = match ending.as_deref() {
            Some("svg") => self.svg().into_bytes(),
            Some("png") => self.png(op)?,
            other => {
                let got = other.map_or("no ending".to_owned(), |other| format!("the ending .{other}"));
                return Err(Error::argument(
                    op,
                    format!("{} with {got}", path.display()),
                    "a path that ends in .svg or .png",
                ));
            }
        };
        file::write(op, path, &bytes)
    }

    pub(super) fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        for shape in &self.shapes {
            _ = match shape {
                Shape::Line { pieces, colour, width } => {
                    let mut path = String::new();
                    for piece in pieces {
                        for (i, (x, y)) in piece.iter().enumerate() {
                            _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
                        }
                    }
                    writeln!(
                        svg,
                        "<path d=\"{path}\" fill=\"none\" stroke=\"#{colour:06x}\" stroke-width=\"{width}\" \
                         stroke-linejoin=\"round\"/>"
                    )
                }
                Shape::Square { at: (x, y), side, colour, part } => writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side}\" height=\"{side}\" fill=\"#{colour:06x}\" \
                     fill-opacity=\"{part:.3}\" stroke=\"#{GRID:06x}\"/>"
                ),
                Shape::Text { at: (x, y), text, anchor, size, colour, turned } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let turn =
                        if *turned { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
                    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                    writeln!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
                         fill=\"#{colour:06x}\"{turn}>{text}</text>"
                    )
                }
            };
        }
        svg + "</svg>\n"
    }

    #[cfg(not(feature = "plotters"))]
    fn png(&self, op: &'static str) -> Result<Vec<u8>> {
        Err(Error::argument(op, "a path that ends in .png", "one that ends in .svg, or gatefold's feature `plotters`"))
    }

    #[cfg(feature = "plotters")]
    fn png(&self, op: &'static str) -> Result<Vec<u8>> {
        use plotters::{prelude::*, style::register_font};
        let fail = |reason: &dyn std::fmt::Display| Error::argument(op, reason, "a picture that can be drawn");
        let (width, height) = ((SCALE * self.width).ceil(), (SCALE * self.height).ceil());
        if width.max(height) > LARGEST {
            let want = format!("at most {LARGEST} pixels a side in a PNG file; an SVG file has no bound");
            return Err(Error::argument(op, format!("{width} × {height} pixels"), want));
        }
        let (width, height) = (width as u32, height as u32);
        // plotters knows fonts by name in the whole program: the name is ours, so that nobody else's font is replaced.
        register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
            .map_err(|_| fail(&"a font that cannot be read"))?;
        let mut pixels = vec![0; 3 * width as usize * height as usize];
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| fail(&e))?;
        for shape in &self.shapes {
            shape.draw(&area).map_err(|e| fail(&e))?;
        }
        area.present().map_err(|e| fail(&e))?;
        drop(area);

        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|e| fail(&e))?;
        writer.write_image_data(&pixels).map_err(|e| fail(&e))?;
        writer.finish().map_err(|e| fail(&e))?;
        Ok(file)
    }
}

/// Pixels of a PNG file to a unit: lines of a unit stay fine and text is sharp.
#[cfg(feature = "plotters")]
const SCALE: f64 = 2.0;
/// A side, in pixels: 768 MiB in memory.
#[cfg(feature = "plotters")]
const LARGEST: f64 = 16384.0;
#[cfg(feature = "plotters")]
const FONT: &str = "gatefold: DejaVu Sans";

#[cfg(feature = "plotters")]
type Area<'a> = plotters::drawing::DrawingArea<plotters::prelude::BitMapBackend<'a>, plotters::coord::Shift>;

#[cfg(feature = "plotters")]
impl Shape {
    fn draw(&self, area: &Area) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        use plotters::{
            prelude::*,
            style::text_anchor::{HPos, Pos, VPos},
        };
        let rgb = |colour: Colour| RGBColor((colour >> 16) as u8, (colour >> 8) as u8, colour as u8);
        let pixel = |(x, y): (f64, f64)| ((SCALE * x).round() as i32, (SCALE * y).round() as i32);
        let thick = |width: f64| (SCALE * width).round() as u32;
        match self {
            Shape::Line { pieces, colour, width } => {
                for piece in pieces {
                    let mut points: Vec<_> = piece.iter().map(|&point| pixel(point)).collect();
                    // Many points may fall on one pixel, where a line has no direction.
                    points.dedup();
                    if points.len() > 1 {
                        area.draw(&PathElement::new(points, rgb(*colour).stroke_width(thick(*width))))?;
                    }
                }
            }
            &Shape::Square { at, side, colour, part } => {
                let corners = [pixel(at), pixel((at.0 + side, at.1 + side))];
                area.draw(&Rectangle::new(corners, rgb(colour).mix(part).filled()))?;
                area.draw(&Rectangle::new(corners, rgb(GRID).stroke_width(thick(1.0))))?;
            }
            Shape::Text { at, text, anchor, size, colour, turned } => {
                let size = SCALE * size;
                let h_pos = match anchor {
                    Anchor::Start => HPos::Left,
                    Anchor::Middle => HPos::Center,
                    Anchor::End => HPos::Right,
                };
                let turn = if *turned { FontTransform::Rotate270 } else { FontTransform::None };
                let style =
                    (FONT, size).into_font().transform(turn).color(&rgb(*colour)).pos(Pos::new(h_pos, VPos::Top));
                // plotters puts the baseline half of the size below the top.
                let ((x, y), half) = (pixel(*at), (size / 2.0) as i32);
                area.draw_text(text, &style, if *turned { (x - half, y) } else { (x, y - half) })?;
            }
        }
        Ok(())
    }
}
