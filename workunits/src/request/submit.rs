//! A submission: what a new unit is to do, and where.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Extension;

/// What a new unit is to do, and where. All members but `extension` are Receptor's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submit {
    /// The node that runs it; `localhost` is the one that is asked.
    pub node: String,
    /// Its work type there.
    pub work_type: String,
    /// Every other member: a command takes `params`.
    pub params: BTreeMap<String, String>,
    /// The TLS client profile that reaches the node.
    pub tls_client: String,
    /// How long it may wait for its start, as a Go duration; empty means for ever.
    pub ttl: String,
    /// Whether requests to the node are signed.
    pub sign_work: bool,
    /// A token, or nothing.
    pub signature: String,
    /// What only our own nodes understand.
    pub extension: Extension,
}

impl Submit {
    /// The members that are no parameters; every other one is.
    pub const MEMBERS: [&str; 9] =
        ["command", "subcommand", "node", "worktype", "tlsclient", "ttl", "signwork", "signature", "netmesh"];

    pub(super) fn put_into(&self, line: &mut Map<String, Value>) {
        for (name, value) in &self.params {
            line.entry(name.as_str()).or_insert_with(|| json!(value));
        }
        let mut put = |name: &str, value: &str| drop(line.insert(name.to_owned(), json!(value)));
        put("node", &self.node);
        put("worktype", &self.work_type);
        for (name, value) in
            [("tlsclient", &self.tls_client), ("ttl", &self.ttl), ("signature", &self.signature)]
        {
            if !value.is_empty() {
                put(name, value);
            }
        }
        if self.sign_work {
            put("signwork", "true");
        }
        if self.extension != Extension::default() {
            put("netmesh", &self.extension.to_text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::WorkRequest, *};

    #[test]
    fn a_parameter_cannot_take_the_place_of_a_member() {
        let submit = Submit {
            node: "bar".into(),
            work_type: "cat".into(),
            params: [("node".to_owned(), "evil".to_owned()), ("subcommand".to_owned(), "cancel".to_owned())]
                .into(),
            ..Submit::default()
        };
        let line: Value = serde_json::from_str(&WorkRequest::Submit(Box::new(submit)).to_line()).unwrap();
        assert_eq!((&line["node"], &line["subcommand"]), (&json!("bar"), &json!("submit")));
    }
}
