//! The picture (SVG).

use super::report::Report;

/// Draws it.
pub fn plot(report: &Report) -> String {
    let _ = report;
    String::new()
}
