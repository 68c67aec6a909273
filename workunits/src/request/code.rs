//! Why a request was refused, in a word for programs: every code that there is, and how a refusal with one is written.
//!
//! ```text
//! client   {"command":"work","subcommand":"cancel","unitid":"x","errors":"json"}␊
//! server   {"code":"unknown_unit","error":"unknown work unit x"}␊         instead of   ERROR: unknown work unit x␊
//! ```
//! The texts are for people and may change; a code never does. A node that offers `error-codes` understands the member
//! `errors`, and no other node is sent it. `docs/control.md` tells what each code means and what to do about it.

use std::fmt;

use netmesh::{control, json::to_go_string};
use serde_json::{Map, Value, json};

/// The member of a request that asks for codes, and its one value.
const ASKED: (&str, &str) = ("errors", "json");

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// Why a request was refused. The words stand in replies and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant),+];

            /// The word.
            pub fn word(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $word,)+
                }
            }
        }
    };
}

codes! {
    /// The line begins like JSON and is none.
    BadJson = "bad_json",
    /// Something in the request is missing, too much, or of the wrong kind.
    BadRequest = "bad_request",
    /// There is no such command or subcommand.
    UnknownCommand = "unknown_command",
    /// A line has more bytes than a line may have.
    LineTooLong = "line_too_long",
    /// The node has its hands full.
    Busy = "busy",
    /// The node is stopping.
    Closing = "closing",

    /// No such unit.
    UnknownUnit = "unknown_unit",
    /// No such work type on the node that was to run it.
    UnknownWorkType = "unknown_work_type",
    /// The work type takes no parameters of the submitter.
    ParamsNotAllowed = "params_not_allowed",
    /// The work type has a command of its own.
    CommandNotAllowed = "command_not_allowed",
    /// The work type's process runs as the user that it says.
    UserNotAllowed = "user_not_allowed",
    /// The work type's process runs in the directory that it says.
    DirectoryNotAllowed = "directory_not_allowed",
    /// The work type takes no environment variables of the submitter.
    EnvNotAllowed = "env_not_allowed",
    /// The time to live is none, or is for work that starts at once.
    BadTtl = "bad_ttl",
    /// Secrets would travel in clear.
    SecretsInClear = "secrets_in_clear",
    /// The unit's state does not allow it.
    NotNow = "not_now",
    /// The payload is not what was declared, or broke off.
    IncompletePayload = "incomplete_payload",
    /// Somebody ended the unit before its payload was complete.
    Canceled = "canceled",
    /// The same request came again, and its connection sends the payload.
    Superseded = "superseded",
    /// The request's unit was released.
    Released = "released",
    /// Another controller has the unit now.
    Adopted = "adopted",
    /// The unit is not one that can be adopted.
    NotAdoptable = "not_adoptable",
    /// The other node is of a kind that cannot do this.
    Unsupported = "unsupported",
    /// The unit's node refused; the text has its words.
    Remote = "remote",
    /// The disk is full.
    NoSpace = "no_space",
    /// The disk would not have it.
    Io = "io",

    /// The work type wants signed requests, and this one is not.
    NotSigned = "not_signed",
    /// The signature is not good.
    Denied = "denied",
    /// The signature was good once, or will be.
    SignatureTime = "signature_time",
    /// This node cannot check signatures.
    NoVerificationKey = "no_verification_key",
    /// There is a signature where none is wanted.
    UnexpectedSignature = "unexpected_signature",

    /// The text is no node's name.
    BadNode = "bad_node",
    /// The text is no service's name.
    BadService = "bad_service",
    /// No way leads to the node now.
    NoRoute = "no_route",
    /// Nobody listens on the service.
    UnknownService = "unknown_service",
    /// No answer came in time.
    Timeout = "timeout",
    /// The message crossed as many links as it may, and is not there yet.
    TooManyHops = "too_many_hops",
    /// A firewall rule rejects it.
    Blocked = "blocked",
    /// There is no TLS profile of that name.
    UnknownTls = "unknown_tls",
    /// The service wants TLS.
    SecureService = "secure_service",
    /// The connection could not be made for another reason.
    ConnectFailed = "connect_failed",

    /// The new configuration needs a restart.
    RestartNeeded = "restart_needed",
    /// The configuration file has faults.
    BadConfig = "bad_config",
    /// The daemon was not started from a file.
    NoConfig = "no_config",
    /// Some listeners could not be opened.
    ListenFailed = "listen_failed",
}

impl ErrorCode {
    /// The code of that name; `None` for one of tomorrow.
    pub fn of_word(word: &str) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.word() == word)
    }

    /// The refusal as a line, line feed included.
    pub fn refusal(self, text: &str) -> String {
        let text = text.trim_end().replace(['\r', '\n'], " ");
        format!("{}\n", to_go_string(&json!({ "code": self.word(), "error": text })))
    }

    /// The same request, asking for codes. A line of words, which cannot ask, stays as it is.
    pub fn asked_in(line: &str) -> String {
        let (name, value) = ASKED;
        match line.strip_prefix('{') {
            Some(rest) if rest.starts_with('"') => format!("{{\"{name}\":\"{value}\",{rest}"),
            _ => line.to_owned(),
        }
    }

    /// Whether a request asks for codes.
    pub fn is_asked_by(members: &Map<String, Value>) -> bool {
        members.get(ASKED.0).is_some_and(|value| value == ASKED.1)
    }

    /// Whether this is the member that asks for codes, and so is none of a submission's parameters.
    pub(crate) fn is_question(name: &str, value: &str) -> bool {
        (name, value) == ASKED
    }
}

/// A code is its word.
impl PartialEq<&str> for ErrorCode {
    fn eq(&self, word: &&str) -> bool {
        self.word() == *word
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What another node said instead of yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word for programs, known here or not; `None` from a node that gives none.
    pub code: Option<String>,
    /// The sentence for people.
    pub text: String,
}

impl Refusal {
    /// Reads a reply; `None` when it refuses nothing. An object counts only where codes were asked for.
    pub fn of_reply(line: &str, asked: bool) -> Option<Refusal> {
        if let Some(text) = control::failed(line) {
            return Some(Refusal { code: None, text: text.to_owned() });
        }
        if !asked || !line.starts_with('{') || !line.contains("\"code\"") {
            return None;
        }
        let mut members: Map<String, Value> = serde_json::from_str(line).ok()?;
        match (members.len(), members.remove("code"), members.remove("error")) {
            (2, Some(Value::String(code)), Some(Value::String(text))) => {
                Some(Refusal { code: Some(code), text })
            }
            _ => None,
        }
    }

    /// The code, if this version knows it.
    pub fn known(&self) -> Option<ErrorCode> {
        ErrorCode::of_word(self.code.as_deref()?)
    }

    /// Whether the other node knows no such unit. A node without codes says it in Receptor's words.
    pub fn is_unknown_unit(&self) -> bool {
        match &self.code {
            Some(code) => code == ErrorCode::UnknownUnit.word(),
            None => self.text.contains("unknown work unit"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_with_a_code_reads_as_it_was_written() {
        let line = ErrorCode::UnknownUnit.refusal("unknown work unit \"x\"\nreally\n");
        assert_eq!(line, "{\"code\":\"unknown_unit\",\"error\":\"unknown work unit \\\"x\\\" really\"}\n");
        let refusal = Refusal::of_reply(line.trim_end(), true).unwrap();
        assert_eq!(refusal.known(), Some(ErrorCode::UnknownUnit));
        assert_eq!(refusal.text, "unknown work unit \"x\" really");
    }

    #[test]
    fn only_a_refusal_is_taken_for_one() {
        for (line, asked, refuses) in [
            ("ERROR: no", true, true),
            ("ERROR: no", false, true),
            (r#"{"code":"of_tomorrow","error":"no"}"#, true, true),
            (r#"{"code":"unknown_unit","error":"no"}"#, false, false),
            (r#"{"code":{"State":2},"error":{"State":1}}"#, true, false), // units of a list
            (r#"{"code":"x","error":"y","unitid":"z"}"#, true, false),
            (r#"{"error":"y"}"#, true, false),
            ("Streaming results for work unit code", true, false),
        ] {
            assert_eq!(Refusal::of_reply(line, asked).is_some(), refuses, "{line}");
        }
    }

    #[test]
    fn an_unknown_unit_is_known_by_its_code_and_to_a_go_node_by_its_text() {
        let refusal =
            |code: Option<&str>, text: &str| Refusal { code: code.map(str::to_owned), text: text.to_owned() };
        assert!(refusal(Some("unknown_unit"), "never heard of it").is_unknown_unit());
        assert!(refusal(None, "unknown work unit x").is_unknown_unit());
        assert!(!refusal(Some("denied"), "not for unknown work units").is_unknown_unit());
    }

    #[test]
    fn a_json_line_asks_and_a_line_of_words_cannot() {
        let asking = ErrorCode::asked_in(r#"{"command":"status"}"#);
        assert_eq!(asking, r#"{"errors":"json","command":"status"}"#);
        assert!(ErrorCode::is_asked_by(serde_json::from_str::<Value>(&asking).unwrap().as_object().unwrap()));
        assert_eq!(ErrorCode::asked_in("work status x"), "work status x");
    }

    #[test]
    fn no_word_stands_for_two_codes() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::of_word(code.word()), Some(*code));
        }
    }
}
