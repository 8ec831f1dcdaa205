//! How costs grow: with the members of a group, with the length of its log, and with the number of groups.

use super::{Choice, Counter, Shape, count_per_operation};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// One line of points.
struct Curve {
    file: &'static str,
    title: &'static str,
    across: &'static str,
    up: &'static str,
    /// Whether the points lie far apart, so that each is a step further than the one before.
    steps: bool,
    points: Vec<(u64, f64)>,
}

/// Counts all curves, and writes each as an SVG file into this directory.
pub(super) fn draw(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for count in [members, log, instructions_of_groups, misses_of_groups] {
        let curve = count()?;
        let file = dir.join(curve.file);
        fs::write(&file, curve.svg()).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("{}", file.display());
        curve.points.iter().for_each(|(x, y)| println!("{x:>10} {y:>12}"));
    }
    Ok(())
}

fn points(values: &[u64], count: impl Fn(u64) -> Result<f64, String>) -> Result<Vec<(u64, f64)>, String> {
    values.iter().map(|&value| Ok((value, count(value)?))).collect()
}

fn members() -> Result<Curve, String> {
    let count = |members: u64| {
        let shape = Shape { members: u8::try_from(members).expect("few"), ..Shape::default() };
        count_per_operation(Counter::Instructions, Choice::W1, 1_000, shape)
    };
    let points = points(&[3, 7, 11, 15, 23, 31], count)?;
    let (title, across) = ("One proposal, until every member has applied it", "members");
    Ok(Curve { file: "cost-members.svg", title, across, up: "instructions", steps: false, points })
}

fn log() -> Result<Curve, String> {
    let count = |log| {
        let shape = Shape { log, ..Shape::default() };
        count_per_operation(Counter::Instructions, Choice::W1, 1_000, shape)
    };
    let points = points(&[0, 10_000, 100_000, 1_000_000, 10_000_000], count)?;
    let (title, across) = ("One proposal, after a log of this length", "entries");
    Ok(Curve { file: "cost-log.svg", title, across, up: "instructions", steps: true, points })
}

const GROUPS: &[u64] = &[100, 1_000, 5_000, 10_000, 20_000];

/// A heartbeat round of each group, once and then twice more.
fn of_groups(counter: Counter, groups: u64) -> Result<f64, String> {
    count_per_operation(counter, Choice::W4, groups, Shape { groups, ..Shape::default() })
}

fn instructions_of_groups() -> Result<Curve, String> {
    let points = points(GROUPS, |groups| of_groups(Counter::Instructions, groups))?;
    let (title, across) = ("A heartbeat round of one of so many idle groups", "groups");
    Ok(Curve { file: "cost-groups.svg", title, across, up: "instructions", steps: true, points })
}

fn misses_of_groups() -> Result<Curve, String> {
    let points = points(GROUPS, |groups| of_groups(Counter::Misses, groups))?;
    let (title, across) =
        ("A heartbeat round of one group: cache lines from memory, with 8 MiB of cache", "groups");
    Ok(Curve { file: "cost-groups-misses.svg", title, across, up: "cache lines", steps: true, points })
}

/// The drawing's measures, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 50.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

impl Curve {
    /// The drawing: a line with its points, each with what it stands for. Readable on light and dark.
    fn svg(&self) -> String {
        let most = self.points.iter().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
        let last = self.points.last().map_or(1, |(x, _)| *x) as f64;
        let steps = (self.points.len().max(2) - 1) as f64;
        let place = |(number, &(x, y)): (usize, &(u64, f64))| {
            let share = if self.steps { number as f64 / steps } else { x as f64 / last };
            (LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most * (HEIGHT - TOP - BOTTOM))
        };
        let places: Vec<_> = self.points.iter().enumerate().map(place).collect();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            self.title
        );
        let (floor, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{floor}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"8\" y=\"{}\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 12.0,
            self.across,
            TOP - 8.0,
            self.up
        );
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#26c\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for ((x, y), (across, up)) in places.iter().zip(&self.points) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#26c\"/>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                y - 8.0,
                grouped(up.round() as u64),
                floor + 16.0,
                grouped(*across)
            );
        }
        svg + "</svg>\n"
    }
}

/// A number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [0, 999, 1_000, 58_481, 10_000_000].map(grouped),
            ["0", "999", "1,000", "58,481", "10,000,000"]
        );
    }

    #[test]
    fn a_curve_has_its_points_in_the_drawing() {
        let points = vec![(3, 10.0), (15, 20.0)];
        let (title, across, up) = ("Title", "members", "instructions");
        let svg = Curve { file: "", title, across, up, steps: false, points }.svg();
        assert!(svg.contains(">Title<") && svg.contains(">members<") && svg.contains(">instructions<"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("cx=\"182.0\"") && svg.contains("cx=\"590.0\""), "{svg}");
    }
}
