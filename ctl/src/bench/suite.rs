//! Goes through the groups of rows: each of this program, of its peer, of the machine; what fails is noted, and it goes on.

use std::{io::Write as _, path::Path};

use super::{
    mesh::Place,
    plan::{Plan, Wanted},
    program::Program,
    report::{Better, Cell, Of, Report, Row, Spec, Who},
    rows,
    stats::Figure,
    trouble::{Tried, Trouble},
    yard::Yard,
};

/// Rows that are measured together, since they need the same nodes.
pub(super) struct Group {
    /// The rows it has.
    pub(super) specs: fn(&Plan) -> Vec<Spec>,
    /// Measures those of them that are wanted, of one program or of the machine.
    pub(super) run: fn(&mut Turn<'_>) -> Tried<()>,
}

/// One group, and of whom it is measured now.
pub(super) struct Turn<'a> {
    pub(super) who: Who,
    pub(super) place: Place,
    pub(super) plan: &'a Plan,
    rows: &'a mut [Row],
    wanted: &'a Wanted,
}

impl Turn<'_> {
    /// Whether any of these rows is to be measured now.
    pub(super) fn wants(&self, keys: &[String]) -> bool {
        keys.iter().any(|key| self.rows.iter().any(|row| row.spec.key == *key && self.due(&row.spec)))
    }

    /// Measures rows together: `measure` gives a figure for each of `keys`. Nothing happens when none is wanted.
    pub(super) fn case(&mut self, keys: &[String], measure: impl FnOnce() -> Tried<Vec<Figure>>) {
        if !self.wants(keys) || self.place.yard.is_closed() {
            return;
        }
        let whose = match self.who {
            Who::Ours => "netmesh",
            Who::Peer => "peer",
            Who::Limit => "limit",
        };
        say(&format!("{} ({whose})", keys.join(", ")));
        match measure() {
            Ok(figures) => {
                for (key, figure) in keys.iter().zip(figures) {
                    self.note(key, Cell::Found(figure));
                }
            }
            Err(trouble) => keys.iter().for_each(|key| self.note(key, Cell::Failed(trouble.0.clone()))),
        }
    }

    fn note(&mut self, key: &str, cell: Cell) {
        let who = self.who;
        let due = self.rows.iter_mut().find(|row| row.spec.key == key && self.wanted.has(key));
        if let Some(row) = due.filter(|row| row.spec.of.covers(who, self.place.program.is_netmesh)) {
            *row.cell(who) = cell;
        }
    }

    fn due(&self, spec: &Spec) -> bool {
        self.wanted.has(&spec.key) && spec.of.covers(self.who, self.place.program.is_netmesh)
    }
}

/// The rows of a run, in order.
pub(super) fn specs(plan: &Plan) -> Vec<Spec> {
    rows::GROUPS.iter().flat_map(|group| (group.specs)(plan)).collect()
}

/// A row's description.
pub(super) fn spec(
    group: &'static str,
    key: impl Into<String>,
    what: impl Into<String>,
    unit: &'static str,
    better: Better,
    of: Of,
) -> Spec {
    Spec { key: key.into(), group, what: what.into(), unit, better, of }
}

/// Measures everything that is wanted. What fails is in the report; nothing but a closed yard ends it early.
pub(super) fn run(
    plan: &Plan,
    wanted: &Wanted,
    ours: &Program,
    peer: Option<&Program>,
    yard: &Yard,
    directory: &Path,
) -> Report {
    let mut report = Report::default();
    let everybody = [(Who::Ours, Some(ours)), (Who::Peer, peer), (Who::Limit, Some(ours))];
    for (number, group) in rows::GROUPS.iter().enumerate() {
        let specs = (group.specs)(plan).into_iter().filter(|spec| wanted.has(&spec.key));
        let mut rows: Vec<Row> = specs.map(Row::new).collect();
        for (who, program) in everybody {
            let Some(program) = program.filter(|_| !yard.is_closed()) else { continue };
            let covers = |row: &Row| row.spec.of.covers(who, program.is_netmesh);
            for row in rows.iter_mut().filter(|row| who == Who::Peer && !covers(row)) {
                if row.spec.of != Of::LimitAlone {
                    *row.cell(who) = Cell::Cannot;
                }
            }
            if !rows.iter().any(covers) {
                continue;
            }
            let place =
                Place { yard: yard.clone(), program: program.clone(), directory: directory.to_owned() };
            let done = place
                .within(&format!("{number}{}", who as u8))
                .and_then(|place| (group.run)(&mut Turn { who, place, plan, rows: &mut rows, wanted }));
            let why = done.err().unwrap_or_else(|| Trouble::new("it was not measured"));
            for row in rows.iter_mut().filter(|row| covers(row)) {
                let cell = row.cell(who);
                if *cell == Cell::Empty {
                    *cell = Cell::Failed(why.0.clone());
                }
            }
        }
        report.rows.append(&mut rows);
    }
    report
}

/// Tells whoever waits what is going on.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "netmesh: {what}"); // nobody may be reading any more
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_that_is_a_word_on_the_command_line() {
        for plan in [Plan::whole(), Plan::quick()] {
            let keys: Vec<String> = specs(&plan).into_iter().map(|spec| spec.key).collect();
            let different: BTreeSet<&String> = keys.iter().collect();
            assert_eq!(different.len(), keys.len(), "{keys:?}");
            let good = |key: &String| key.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric());
            assert!(keys.iter().all(good), "{keys:?}");
        }
    }

    #[test]
    fn the_rows_of_a_group_stand_together() {
        let mut headings: Vec<&str> = specs(&Plan::whole()).into_iter().map(|spec| spec.group).collect();
        headings.dedup();
        let different: BTreeSet<&str> = headings.iter().copied().collect();
        assert_eq!(different.len(), headings.len(), "{headings:?}");
    }
}
