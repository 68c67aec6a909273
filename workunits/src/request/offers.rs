//! What a node offers beside Receptor's language: asked for before anything of ours is said.
//!
//! A node of ours names its features in the member `Features` of a status, when asked for it; a Go node has none.

use serde_json::{Map, Value, json};

/// What the other end of a conversation can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// It knows submissions by request id, so that one can be looked up and never doubles.
    pub request_id: bool,
    /// It takes the length of a payload, and tells a cut from the end by it.
    pub payload_length: bool,
    /// It takes a payload in frames, the last of them empty.
    pub payload_framed: bool,
    /// It pushes status and output over one stream.
    pub watch: bool,
    /// It can keep the error output apart.
    pub stderr_separate: bool,
    /// It takes the member `meta` of a submission.
    pub meta: bool,
    /// It lists some of its units, and page by page.
    pub list_filter: bool,
    /// It keeps a payload that was cut, and says from which byte to go on.
    pub payload_resume: bool,
    /// It takes the member `sandbox` of a submission.
    pub sandbox: bool,
    /// It says why it refuses in a code too, when asked.
    pub error_codes: bool,
    /// It can show what is there now of a unit that goes on.
    pub watch_now: bool,
    /// It takes tokens that are bound to their request.
    pub bound_token: bool,
    /// It hands units over to other nodes, and tells whoever had them.
    pub adopt: bool,
}

impl Offers {
    /// What this version offers.
    pub const ALL: Offers = Offers {
        request_id: true,
        payload_length: true,
        payload_framed: true,
        watch: true,
        stderr_separate: true,
        meta: true,
        list_filter: true,
        payload_resume: true,
        sandbox: true,
        error_codes: true,
        watch_now: true,
        bound_token: true,
        adopt: true,
    };

    /// The line, without its line feed, that asks a node for its features.
    pub fn question() -> String {
        json!({"command": "status", "requested_fields": ["Version", "Features"]}).to_string()
    }

    /// What the answer to [`Offers::question`] says; features that this version does not know are nobody's loss.
    pub fn of_status(status: &Map<String, Value>) -> Offers {
        let mut offers = Offers::default();
        for named in status.get("Features").and_then(Value::as_array).into_iter().flatten() {
            if let Some((_, offer)) = offers.each_mut().into_iter().find(|(name, _)| named == name) {
                *offer = true;
            }
        }
        offers
    }

    /// The names of what is offered, as `Features` has them.
    pub fn names(mut self) -> Vec<&'static str> {
        self.each_mut().into_iter().filter(|(_, offered)| **offered).map(|(name, _)| name).collect()
    }

    /// True for a node of ours.
    pub fn is_ours(self) -> bool {
        self != Offers::default()
    }

    /// True for a node that may be asked again after a cut: it finds the unit, and never starts half a payload.
    pub fn is_safe_to_repeat(self) -> bool {
        self.request_id && self.payload_length
    }

    /// Every feature by its name: the one place that ties the two.
    fn each_mut(&mut self) -> [(&'static str, &mut bool); 13] {
        [
            ("request-id", &mut self.request_id),
            ("payload-length", &mut self.payload_length),
            ("payload-framed", &mut self.payload_framed),
            ("watch", &mut self.watch),
            ("stderr-separate", &mut self.stderr_separate),
            ("meta", &mut self.meta),
            ("list-filter", &mut self.list_filter),
            ("payload-resume", &mut self.payload_resume),
            ("sandbox", &mut self.sandbox),
            ("error-codes", &mut self.error_codes),
            ("watch-now", &mut self.watch_now),
            ("bound-token", &mut self.bound_token),
            ("adopt", &mut self.adopt),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: &str) -> Offers {
        Offers::of_status(serde_json::from_str::<Value>(status).unwrap().as_object().unwrap())
    }

    #[test]
    fn what_a_node_says_of_itself_is_what_is_read_of_it() {
        assert_eq!(told(&json!({ "Features": Offers::ALL.names() }).to_string()), Offers::ALL);
        let some = told(r#"{"Version":"1.6.9","Features":["watch","of-tomorrow",5]}"#);
        assert_eq!(some, Offers { watch: true, ..Offers::default() });
        assert!(some.is_ours() && !some.is_safe_to_repeat());
    }

    #[test]
    fn a_go_node_offers_nothing() {
        for status in [r#"{"Version":"1.6.9"}"#, "{}", r#"{"Features":null}"#, r#"{"Features":"watch"}"#] {
            assert!(!told(status).is_ours(), "{status}");
        }
    }
}
