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
    #[command(flatten)]
    running: Running,
}

pub(super) fn cps(arguments: &CpsArgs, output: &Output) -> Result<(), Failure> {
    let span = if arguments.minutes {
        "minutes"
    } else {
        "seconds"
    };
    let request = Request::new("cps")
        .with("span", span)
        .with("count", arguments.points);
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
            format!("{:.0}", per_second(accepted.max().unwrap_or(0))),
            grouped(limit.accepted),
            grouped(limit.breached),
        ]);
    }
    let mut text = grid.render("");
    if let Some(node) = limits.first() {
        text += &format!("\nlast {} {span}, oldest first\n", node.points.len());
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

/// A bar for each number, the highest one full.
fn bars(numbers: impl Iterator<Item = u32> + Clone) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u64::from(numbers.clone().max().unwrap_or(0)).max(1);
    let bar = |number| BARS[((u64::from(number) * 8).div_ceil(most)) as usize];
    let bars = numbers.map(bar).collect::<String>();
    format!("{bars}  most {most}")
}
