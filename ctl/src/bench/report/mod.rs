//! What a run found: rows with up to three cells each. Pure: printing it is `text` and `json`.

mod json;
mod text;

use super::stats::Figure;

/// Everything that a run found.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// The machine, a fact a line.
    pub(super) machine: Vec<(&'static str, String)>,
    /// What runs in the first column, and in the second if there is one.
    pub(super) ours: String,
    pub(super) peer: Option<String>,
    pub(super) rows: Vec<Row>,
}

/// Who a measurement is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// This program.
    Ours,
    /// The program that it is compared with.
    Peer,
    /// Neither: what this machine can do at best.
    Limit,
}

/// What a row measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// Its name for `--only` and for programs.
    pub(super) key: String,
    /// The heading that it stands under.
    pub(super) group: &'static str,
    /// The same for people.
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// Of whom it is measured.
    pub(super) of: Of,
}

/// Which direction is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// Of whom a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Of both programs.
    Both,
    /// Of both, and beside them stands what the machine can do at best.
    BothAndLimit,
    /// Of programs that are netmesh: it needs what Receptor does not have.
    Netmesh,
    /// The same, beside the machine's limit.
    NetmeshAndLimit,
    /// Of the machine alone.
    LimitAlone,
}

impl Of {
    /// Whether a row is measured of `who`; `is_netmesh` tells whether that program is one.
    pub(super) fn covers(self, who: Who, is_netmesh: bool) -> bool {
        match (self, who) {
            (Of::Both | Of::Netmesh, Who::Limit) | (Of::LimitAlone, Who::Ours | Who::Peer) => false,
            (Of::BothAndLimit | Of::NetmeshAndLimit | Of::LimitAlone, Who::Limit) => true,
            (Of::Both | Of::BothAndLimit, _) => true,
            (Of::Netmesh | Of::NetmeshAndLimit, _) => is_netmesh,
        }
    }
}

/// A row: what it measures, and what was found.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) spec: Spec,
    pub(super) ours: Cell,
    pub(super) peer: Cell,
    pub(super) limit: Cell,
}

/// What was found of one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell {
    /// It was not asked for, or makes no sense.
    #[default]
    Empty,
    Found(Figure),
    /// It should have been found.
    Failed(String),
    /// It cannot be done.
    Cannot,
}

impl Row {
    pub(super) fn new(spec: Spec) -> Row {
        Row { spec, ours: Cell::Empty, peer: Cell::Empty, limit: Cell::Empty }
    }

    pub(super) fn cell(&mut self, who: Who) -> &mut Cell {
        match who {
            Who::Ours => &mut self.ours,
            Who::Peer => &mut self.peer,
            Who::Limit => &mut self.limit,
        }
    }

    /// How many times better ours is than the peer.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.ours.value()?, self.peer.value()?);
        let ratio = match self.spec.better {
            Better::Higher => ours / peer,
            Better::Lower => peer / ours,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// Ours divided by the limit.
    pub(super) fn of_limit(&self) -> Option<f64> {
        let share = self.ours.value()? / self.limit.value()?;
        share.is_finite().then_some(share)
    }
}

impl Cell {
    fn value(&self) -> Option<f64> {
        match self {
            Cell::Found(figure) => Some(figure.value),
            _ => None,
        }
    }
}

impl Report {
    /// The rows that failed: key, of whom, why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, Who, &str)> {
        self.rows.iter().flat_map(|row| {
            let cells = [(Who::Ours, &row.ours), (Who::Peer, &row.peer), (Who::Limit, &row.limit)];
            cells.into_iter().filter_map(|(who, cell)| match cell {
                Cell::Failed(why) => Some((row.spec.key.as_str(), who, why.as_str())),
                _ => None,
            })
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row with values.
    pub(crate) fn row(key: &str, unit: &'static str, better: Better, cells: [Option<f64>; 3]) -> Row {
        let what = format!("what {key} is");
        let spec = Spec { key: key.into(), group: "Group", what, unit, better, of: Of::BothAndLimit };
        let cell = |value: Option<f64>| match value {
            Some(value) => Cell::Found(Figure { value, low: value / 2.0, high: value * 2.0, rounds: 5 }),
            None => Cell::Empty,
        };
        let [ours, peer, limit] = cells.map(cell);
        Row { spec, ours, peer, limit }
    }

    #[test]
    fn a_ratio_says_how_many_times_better_whatever_better_means() {
        let rate = row("a", "MiB/s", Better::Higher, [Some(300.0), Some(10.0), Some(600.0)]);
        assert_eq!((rate.ratio(), rate.of_limit()), (Some(30.0), Some(0.5)));
        let time = row("b", "ms", Better::Lower, [Some(2.0), Some(800.0), Some(1.0)]);
        assert_eq!((time.ratio(), time.of_limit()), (Some(400.0), Some(2.0)));
    }

    #[test]
    fn there_is_no_ratio_to_what_was_not_found() {
        let alone = row("a", "ms", Better::Lower, [Some(2.0), None, None]);
        assert_eq!((alone.ratio(), alone.of_limit()), (None, None));
        let nothing = row("a", "ms", Better::Lower, [Some(0.0), Some(3.0), Some(0.0)]);
        assert_eq!((nothing.ratio(), nothing.of_limit()), (None, None));
    }

    #[test]
    fn what_receptor_cannot_do_is_not_asked_of_it() {
        assert!(Of::Netmesh.covers(Who::Peer, true) && !Of::Netmesh.covers(Who::Peer, false));
        assert!(Of::Both.covers(Who::Peer, false) && !Of::Both.covers(Who::Limit, false));
        assert!(Of::LimitAlone.covers(Who::Limit, false) && !Of::LimitAlone.covers(Who::Ours, true));
        assert!(
            Of::NetmeshAndLimit.covers(Who::Limit, false) && !Of::NetmeshAndLimit.covers(Who::Peer, false)
        );
    }

    #[test]
    fn failures_are_listed_with_whose_they_are() {
        let mut bad = row("a", "ms", Better::Lower, [Some(2.0), None, None]);
        *bad.cell(Who::Peer) = Cell::Failed("it hung".into());
        let report = Report { rows: vec![bad], ..Report::default() };
        assert_eq!(report.failures().collect::<Vec<_>>(), [("a", Who::Peer, "it hung")]);
    }
}
