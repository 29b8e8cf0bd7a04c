//! Rates as a picture: one bar for each row.

use std::path::Path;

use pgherald_testkit::{Error, Result};
use plotters::prelude::*;

const WIDTH: u32 = 860;
/// Of one bar, and of everything around them.
const BAR: u32 = 50;
const AROUND: u32 = 110;
const OURS: RGBColor = RGBColor(27, 94, 160);
const OTHERS: RGBColor = RGBColor(160, 168, 176);

pub(crate) struct Bar<'a> {
    pub(crate) label: &'a str,
    pub(crate) value: f64,
}

pub(crate) fn draw(caption: &str, rows: &[Bar<'_>], file: &Path) -> Result<()> {
    bars(caption, rows, file).map_err(|error| Error::because(file.display(), error))
}

fn bars(
    caption: &str,
    rows: &[Bar<'_>],
    file: &Path,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let height = AROUND + BAR * u32::try_from(rows.len())?;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let largest = rows.iter().map(|row| row.value).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(230)
        .build_cartesian_2d(0.0..largest * 1.1, (0..rows.len()).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_label_formatter(&|rate| format!("{:.0}k", rate / 1e3))
        .y_label_formatter(&|place| match place {
            SegmentValue::CenterOf(at) => {
                rows.get(*at).map(|row| row.label.to_owned()).unwrap_or_default()
            }
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(rows.iter().enumerate().map(|(at, row)| {
        let color = if row.label.starts_with("pgherald") { OURS } else { OTHERS };
        let corners = [(0.0, SegmentValue::Exact(at)), (row.value, SegmentValue::Exact(at + 1))];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(6, 6, 0, 0);
        bar
    }))?;
    area.present()?;
    Ok(())
}
