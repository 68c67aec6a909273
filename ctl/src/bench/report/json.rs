//! A report for programs.

use serde_json::{Map, Value, json};

use super::{Better, Cell, Report, Row};

impl Report {
    /// The whole report as JSON: `machine`, `netmesh`, `peer`, and `rows`, each with a cell of whom it was measured.
    pub(in crate::bench) fn to_json(&self) -> Value {
        let machine: Map<String, Value> =
            self.machine.iter().map(|(fact, value)| ((*fact).to_owned(), json!(value))).collect();
        let rows: Vec<Value> = self.rows.iter().map(one).collect();
        json!({"machine": machine, "netmesh": self.ours, "peer": self.peer, "rows": rows})
    }
}

fn one(row: &Row) -> Value {
    let spec = &row.spec;
    let mut object = Map::new();
    object.insert("key".into(), json!(spec.key));
    object.insert("group".into(), json!(spec.group));
    object.insert("what".into(), json!(spec.what));
    object.insert("unit".into(), json!(spec.unit));
    let better = match spec.better {
        Better::Higher => "higher",
        Better::Lower => "lower",
    };
    object.insert("better".into(), json!(better));
    for (name, found) in [("netmesh", &row.ours), ("peer", &row.peer), ("limit", &row.limit)] {
        let found = match found {
            Cell::Empty => continue,
            Cell::Found(figure) => json!(figure),
            Cell::Failed(why) => json!({"error": why}),
            Cell::Cannot => json!({"cannot": true}),
        };
        object.insert(name.into(), found);
    }
    for (name, ratio) in [("better_by", row.ratio()), ("of_limit", row.of_limit())] {
        if let Some(ratio) = ratio {
            object.insert(name.into(), json!(ratio));
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Who, tests::row},
        *,
    };

    #[test]
    fn a_row_holds_a_cell_of_everybody_it_was_measured_of() {
        let mut it = row("a", "ms", Better::Lower, [Some(2.0), Some(8.0), None]);
        let limit = it.cell(Who::Limit);
        *limit = Cell::Failed("no /bin/true".into());
        let report = Report {
            machine: vec![("cores", "2".into())],
            ours: "netmesh".into(),
            peer: Some("it".into()),
            rows: vec![it],
        };
        assert_eq!(
            report.to_json(),
            json!({
                "machine": {"cores": "2"},
                "netmesh": "netmesh",
                "peer": "it",
                "rows": [{
                    "key": "a", "group": "Group", "what": "what a is", "unit": "ms", "better": "lower",
                    "netmesh": {"value": 2.0, "low": 1.0, "high": 4.0, "rounds": 5},
                    "peer": {"value": 8.0, "low": 4.0, "high": 16.0, "rounds": 5},
                    "limit": {"error": "no /bin/true"},
                    "better_by": 4.0,
                }],
            })
        );
    }

    #[test]
    fn what_cannot_be_done_is_told_from_what_was_not_asked_for() {
        let mut it = row("a", "ms", Better::Lower, [None, None, None]);
        *it.cell(Who::Peer) = Cell::Cannot;
        let one = one(&it);
        assert_eq!(one["peer"], json!({"cannot": true}));
        assert_eq!(one.get("netmesh"), None);
    }
}
