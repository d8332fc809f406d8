//! As much of SVG as the picture needs: texts, lines and dots.

use std::fmt::Write as _;

/// A picture being drawn.
pub struct Svg(String);

impl Svg {
    /// An empty one of so many pixels.
    pub fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        ))
    }

    /// A text whose `start`, `middle` or `end` is there.
    pub fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        self.coloured(x, y, (anchor, size, "#000000"), text);
    }

    /// A text that says what is less important: grey.
    pub fn aside(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        self.coloured(x, y, (anchor, size, "#555555"), text);
    }

    fn coloured(&mut self, x: f64, y: f64, style: (&str, u32, &str), text: &str) {
        let ((anchor, size, colour), text) = (style, escaped(text));
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"{colour}\">{text}</text>"
        );
    }

    /// A dashed upright line.
    pub fn dashes(&mut self, x: f64, top: f64, bottom: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" \
             stroke=\"#888888\" stroke-width=\"1\" stroke-dasharray=\"4 3\"/>"
        );
    }

    /// A line.
    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>"
        );
    }

    /// A dot.
    pub fn dot(&mut self, x: f64, y: f64, colour: &str) {
        let _ =
            writeln!(self.0, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }

    /// A short upright mark.
    pub fn mark(&mut self, x: f64, y: f64) {
        self.line(x, y - 6.0, x, y + 6.0, "#555555", 2.0);
    }

    /// A line of a grid, with what it stands for below.
    pub fn grid(&mut self, x: f64, top: f64, height: f64, label: &str) {
        self.line(x, top, x, top + height, "#dddddd", 1.0);
        self.text(x, top + height + 16.0, "middle", 10, label);
    }

    /// The whole of it.
    pub fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Text as XML has it; what XML cannot have at all is a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escaped("a<b> & \u{1b}[2J"), "a&lt;b&gt; &amp; ?[2J");
    }
}
