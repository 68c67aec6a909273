//! A report for people: a table, and below it what went wrong.

use std::fmt::Write as _;

use super::{Cell, Report, Who};

/// What the columns are called, but for the programs.
const RATIO: &str = "better by";
const LIMIT: &str = "limit";
const OF_LIMIT: &str = "of limit";
const ROUNDS: &str = "rounds";

impl Report {
    /// The whole report as text.
    pub(in crate::bench) fn to_text(&self) -> String {
        let mut text = String::new();
        for (fact, value) in &self.machine {
            let _ = writeln!(text, "{:<12}{value}", format!("{fact}:")); // a string takes everything
        }
        let _ = writeln!(text, "{:<12}{}", "netmesh:", self.ours);
        if let Some(peer) = &self.peer {
            let _ = writeln!(text, "{:<12}{peer}", "peer:");
        }
        text.push('\n');
        text.push_str(&self.table());
        text.push_str(&self.told_failures());
        text
    }

    /// What failed, each reason once.
    fn told_failures(&self) -> String {
        let mut reasons: Vec<(Who, &str, Vec<&str>)> = Vec::new();
        for (key, who, why) in self.failures() {
            match reasons.iter_mut().find(|(whose, reason, _)| (*whose, *reason) == (who, why)) {
                Some((_, _, keys)) => keys.push(key),
                None => reasons.push((who, why, vec![key])),
            }
        }
        let told = reasons.into_iter().map(|(who, why, keys)| failure(&keys.join(", "), who, why));
        let told: String = told.collect();
        if told.is_empty() { told } else { format!("\nWhat could not be measured:\n{told}") }
    }

    fn table(&self) -> String {
        let mut heads = vec!["row".to_owned(), "unit".to_owned(), "netmesh".to_owned()];
        if self.peer.is_some() {
            heads.extend(["peer".to_owned(), RATIO.to_owned()]);
        }
        heads.extend([LIMIT, OF_LIMIT, ROUNDS, "key"].map(str::to_owned));
        let lines: Vec<Line> = self.lines(heads);
        let columns = lines.first().map_or(0, |line| line.cells.len());
        let width = |column: usize| {
            let widths = lines.iter().map(|line| line.cells[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            if let Some(group) = line.group {
                let _ = writeln!(text, "\n{group}");
            }
            let mut row = String::new();
            for (column, (cell, width)) in line.cells.iter().zip(&widths).enumerate() {
                let (gap, last) = (if column == 0 { "  " } else { "   " }, column + 1 == columns);
                let _ = match column < 2 || last {
                    true => write!(row, "{gap}{cell:<width$}"),
                    false => write!(row, "{gap}{cell:>width$}"),
                };
            }
            let _ = writeln!(text, "{}", row.trim_end());
        }
        text
    }

    fn lines(&self, heads: Vec<String>) -> Vec<Line> {
        let mut lines = vec![Line { group: None, cells: heads }];
        let mut group = "";
        for row in &self.rows {
            let spec = &row.spec;
            let mut cells = vec![spec.what.clone(), spec.unit.to_owned(), shown(&row.ours)];
            if self.peer.is_some() {
                cells.extend([shown(&row.peer), row.ratio().map(times).unwrap_or_default()]);
            }
            let rounds = [&row.ours, &row.peer, &row.limit].map(rounds);
            cells.extend([
                shown(&row.limit),
                row.of_limit().map(digits).unwrap_or_default(),
                rounds.into_iter().flatten().collect::<Vec<_>>().join("/"),
                spec.key.clone(),
            ]);
            let begins = group != spec.group;
            group = spec.group;
            lines.push(Line { group: begins.then_some(spec.group), cells });
        }
        lines
    }
}

/// A line of the table, and the heading above it if it is the first of its group.
struct Line {
    group: Option<&'static str>,
    cells: Vec<String>,
}

fn failure(keys: &str, who: Who, why: &str) -> String {
    let whose = match who {
        Who::Ours => "netmesh",
        Who::Peer => "peer",
        Who::Limit => "limit",
    };
    format!("  {keys} ({whose}): {}\n", why.replace('\n', "\n    "))
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Found(figure) => digits(figure.value),
        Cell::Failed(_) => "failed".to_owned(),
        Cell::Cannot => "cannot".to_owned(),
    }
}

fn rounds(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Found(figure) => Some(figure.rounds.to_string()),
        _ => None,
    }
}

fn times(ratio: f64) -> String {
    format!("{} x", digits(ratio))
}

/// Three digits that count, and never an exponent.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 0.0995 => format!("{value:.3}"),
        small if small < 9.995 => format!("{value:.2}"),
        medium if medium < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Better, tests::row},
        *,
    };

    #[test]
    fn the_table_has_a_column_for_the_peer_only_when_there_is_one() {
        let rows = vec![
            row("job-local", "ms", Better::Lower, [Some(3.25), Some(756.0), None]),
            row("stream", "MiB/s", Better::Higher, [Some(700.0), None, Some(1750.0)]),
        ];
        let mut report = Report {
            machine: vec![("cores", "2".into())],
            ours: "netmesh 0.1.0".into(),
            peer: Some("receptor 1.6.9".into()),
            rows,
        };
        assert_eq!(
            report.to_text(),
            "\
cores:      2
netmesh:    netmesh 0.1.0
peer:       receptor 1.6.9

  row                 unit    netmesh   peer   better by   limit   of limit   rounds   key

Group
  what job-local is   ms         3.25    756       233 x                         5/5   job-local
  what stream is      MiB/s       700                       1750       0.40      5/5   stream
"
        );
        report.peer = None;
        assert!(!report.to_text().contains("better by"), "{}", report.to_text());
    }

    #[test]
    fn what_failed_and_what_cannot_be_done_are_told() {
        let mut bad = row("a", "ms", Better::Lower, [Some(2.0), None, None]);
        *bad.cell(Who::Ours) = Cell::Failed("node n1 ended:\nits last words".into());
        *bad.cell(Who::Peer) = Cell::Cannot;
        let mut other = bad.clone();
        other.spec.key = "b".into();
        let report = Report { peer: Some("it".into()), rows: vec![bad, other], ..Report::default() };
        let text = report.to_text();
        assert!(text.contains("failed   cannot"), "{text}");
        assert!(text.ends_with("\n  a, b (netmesh): node n1 ended:\n    its last words\n"), "{text}");
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.5, "0.50"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123_456.7, "123457"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
