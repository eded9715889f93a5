//! A report as a picture: throughput and latency over time.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::load::series::Point;
use crate::load::{Latency, Report};

/// Why a picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause} -> name a file with --plot that can be written")]
pub struct PlotError {
    /// The file.
    pub path: String,
    /// What went wrong.
    pub cause: String,
}

const SIZE: (u32, u32) = (960, 720);
const THROUGHPUT_HEIGHT: u32 = 300;
const FONT: (&str, u32) = ("sans-serif", 16);

/// How far the scale of latencies goes beyond the longest: there is the legend.
const ROOM: f64 = 8.0;

/// What is drawn of the latencies: name, colour, value.
type Line = (&'static str, RGBColor, fn(&Latency) -> u64);
const LINES: [Line; 5] = [
    ("p50", RGBColor(31, 119, 180), |latency| latency.p50),
    ("p90", RGBColor(44, 160, 44), |latency| latency.p90),
    ("p99", RGBColor(255, 127, 14), |latency| latency.p99),
    ("p99.9", RGBColor(214, 39, 40), |latency| latency.p99_9),
    ("max", RGBColor(127, 127, 127), |latency| latency.max),
];

/// Draws throughput and latency percentiles over time into an SVG file.
///
/// # Errors
///
/// If the file can't be written.
pub fn draw(report: &Report, path: &Path) -> Result<(), PlotError> {
    try_draw(report, path).map_err(|error| PlotError { path: path.display().to_string(), cause: error.to_string() })
}

fn try_draw(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (upper, lower) = area.split_vertically(THROUGHPUT_HEIGHT);
        let end_s = report.window.as_secs_f64();
        draw_throughput(&upper, report, end_s)?;
        draw_latency(&lower, &report.series, end_s)?;
        area.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b, V> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, <V as AsRangedCoord>::CoordDescType>>;

fn draw_throughput(area: &Area<'_>, report: &Report, end_s: f64) -> Result<(), Box<dyn Error>> {
    let series = &report.series;
    let top = series.iter().map(|point| point.operations_per_s).fold(1.0, f64::max) * 1.1;
    let title = format!("{}: {} a second", report.plan.url, report.operation());
    let mut chart = draw_axes(area, &title, end_s, 0.0..top)?;
    let line = series.iter().map(|point| (point.at_s, point.operations_per_s));
    chart.draw_series(LineSeries::new(line, LINES[0].1.stroke_width(2)))?;
    Ok(())
}

fn draw_latency(area: &Area<'_>, series: &[Point], end_s: f64) -> Result<(), Box<dyn Error>> {
    let measured = || series.iter().filter(|point| point.latency.count > 0);
    let low = measured().map(|point| point.latency.p50).min().unwrap_or(1_000);
    let high = measured().map(|point| point.latency.max).max().unwrap_or(1_000_000);
    let range = microseconds(low) / 2.0..microseconds(high.max(low)) * ROOM;
    let mut chart = draw_axes(area, "latency in microseconds", end_s, range.log_scale())?;
    for (name, color, value) in LINES {
        let line = measured().map(|point| (point.at_s, microseconds(value(&point.latency))));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight);
    let labels = labels.background_style(WHITE).border_style(BLACK).label_font(FONT).draw();
    Ok(labels?)
}

/// A chart over the seconds of the window, with its title and axes.
fn draw_axes<'a, 'b, V>(
    area: &'a Area<'b>,
    title: &str,
    end_s: f64,
    values: V,
) -> Result<Chart<'a, 'b, V>, Box<dyn Error>>
where
    V: AsRangedCoord<Value = f64>,
    V::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(45)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..end_s, values)?;
    chart
        .configure_mesh()
        .max_light_lines(4)
        .x_desc("seconds")
        .label_style(FONT)
        .y_label_formatter(&|y| thousands(*y))
        .draw()?;
    Ok(chart)
}

/// A histogram begins at 100 ns, so a logarithm of this exists.
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds.max(100) as f64 / 1e3
}

fn thousands(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Mode;
    use crate::load::report::tests::report;

    #[test]
    fn a_picture_has_a_line_for_each_percentile() {
        let path = std::env::temp_dir().join(format!("ringsock-plot-{}.svg", std::process::id()));
        draw(&report(Mode::PingPong), &path).expect("the directory is there");
        let svg = std::fs::read_to_string(&path).expect("it was written");
        std::fs::remove_file(&path).expect("it is ours");
        assert!(svg.starts_with("<svg"), "{svg}");
        for word in ["p50", "p99.9", "messages a second", "latency in microseconds"] {
            assert!(svg.contains(word), "{word} is missing");
        }
        let empty = Report { series: Vec::new(), ..report(Mode::Connect) };
        draw(&empty, &path).expect("nothing to draw is no error");
        std::fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn a_file_that_can_not_be_written_is_named() {
        let error = draw(&report(Mode::PingPong), Path::new("/nowhere/at/all.svg")).expect_err("no such directory");
        assert!(error.to_string().starts_with("/nowhere/at/all.svg: "), "{error}");
    }
}
