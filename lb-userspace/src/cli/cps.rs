//! `siplb cps`: calls per second, accepted and refused.

use clap::Args;

use super::{
    Failure, Running,
    output::{Align, Grid, Output, grouped},
    read_answer,
};
use crate::control::{Request, plane::LimitReport};

#[derive(Debug, Args)]
pub(super) struct CpsArgs {
    /// By minutes, up to a month back, instead of seconds, up to a day
    #[arg(long)]
    minutes: bool,
    /// How many seconds or minutes
    #[arg(long, value_name = "N", default_value_t = 60)]
    points: u64,
    /// Join so many seconds or minutes into a point
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    merge: u64,
    /// This limit alone, by its name
    #[arg(long, value_name = "NAME")]
    limit: Option<String>,
    #[command(flatten)]
    running: Running,
}

pub(super) fn cps(arguments: &CpsArgs, output: &Output) -> Result<(), Failure> {
    let span = if arguments.minutes {
        "minutes"
    } else {
        "seconds"
    };
    let mut request = Request::new("cps")
        .with("span", span)
        .with("count", arguments.points)
        .with("merge", arguments.merge);
    if let Some(limit) = &arguments.limit {
        request = request.with("limit", limit.as_str());
    }
    let mut answer = arguments.running.call(&request)?;
    if arguments.running.json {
        return output.json(&answer, false);
    }
    let limits: Vec<LimitReport> = read_answer(answer["limits"].take())?;
    use Align::{Left, Right};
    let mut grid = Grid::new(&[Left, Right, Right, Right, Right, Right, Right]);
    grid.row([
        "limit", "cps", "now", "mean", "peak", "accepted", "breached",
    ]);
    for limit in &limits {
        let accepted = limit
            .points
            .iter()
            .map(|[accepted, _]| u64::from(*accepted));
        let seconds = (limit.points.len() as u64 * limit.step_s).max(1);
        let per_second = |calls: u64| calls as f64 / limit.step_s.max(1) as f64;
        grid.row([
            limit.name.clone(),
            limit.cps.map_or("-".to_owned(), |cps| grouped(cps.into())),
            format!(
                "{:.0}",
                per_second(accepted.clone().next_back().unwrap_or(0))
            ),
            format!(
                "{:.1}",
                accepted.clone().sum::<u64>() as f64 / seconds as f64
            ),
            grouped(peak(limit).into()),
            grouped(limit.accepted),
            grouped(limit.breached),
        ]);
    }
    let mut text = grid.render("");
    if let Some(node) = limits.first() {
        let points = match (arguments.merge, arguments.minutes) {
            (1, _) => span.to_owned(),
            (merge, false) => format!("times {merge} seconds"),
            (merge, true) => format!("times {merge} minutes"),
        };
        text += &format!("\nlast {} {points}, oldest first\n", node.points.len());
        text += &format!(
            "  accepted  {}\n",
            bars(node.points.iter().map(|[accepted, _]| *accepted))
        );
        text += &format!(
            "  breached  {}\n",
            bars(node.points.iter().map(|[_, breached]| *breached))
        );
    }
    output.text(&text)
}

/// The most that was accepted in one second.
fn peak(limit: &LimitReport) -> u32 {
    let points = match limit.peaks.as_slice() {
        // A point is a second.
        [] => &limit.points,
        _ => &limit.peaks,
    };
    let accepted = points.iter().map(|[accepted, _]| *accepted);
    accepted.max().unwrap_or(0)
}

/// A bar for each number, the highest one full.
fn bars(numbers: impl Iterator<Item = u32> + Clone) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u64::from(numbers.clone().max().unwrap_or(0)).max(1);
    let bar = |number| BARS[((u64::from(number) * 8).div_ceil(most)) as usize];
    let bars = numbers.map(bar).collect::<String>();
    format!("{bars}  most {most}")
}
