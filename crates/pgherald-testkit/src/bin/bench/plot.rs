//! The throughput as a picture: one bar for each row, median of the rounds.

use std::path::Path;

use pgherald_testkit::{Error, Result};
use plotters::prelude::*;

use crate::report::Throughput;

const SIZE: (u32, u32) = (860, 360);
const OURS: RGBColor = RGBColor(27, 94, 160);
const OTHERS: RGBColor = RGBColor(160, 168, 176);

pub(crate) fn draw(rows: &[Throughput], file: &Path) -> Result<()> {
    bars(rows, file).map_err(|error| Error::because(file.display(), error))
}

fn bars(
    rows: &[Throughput],
    file: &Path,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let largest = rows.iter().map(Throughput::median).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("messages a second", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..largest * 1.1, (0..rows.len()).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_label_formatter(&|rate| format!("{:.0}k", rate / 1e3))
        .y_label_formatter(&|place| match place {
            SegmentValue::CenterOf(at) => rows.get(*at).map(Throughput::label).unwrap_or_default(),
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(rows.iter().enumerate().map(|(at, row)| {
        let color = if row.who == "pgherald" { OURS } else { OTHERS };
        let corners = [(0.0, SegmentValue::Exact(at)), (row.median(), SegmentValue::Exact(at + 1))];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(6, 6, 0, 0);
        bar
    }))?;
    area.present()?;
    Ok(())
}
