//! Which code a refusal has: every reason that the control service knows, tied to its word in `workunits::request`.

use std::fmt;

use netmesh::{
    control::{BadLine, LineTooLong},
    logic::Problem,
    stream::DialError,
};
use workunits::{
    engine::WorkError,
    request::{BadRequest, ErrorCode},
};

/// A reason to refuse a request: a sentence for people and a word for programs.
pub(super) trait Coded: fmt::Display {
    /// The word.
    fn code(&self) -> ErrorCode;
}

impl Coded for WorkError {
    fn code(&self) -> ErrorCode {
        WorkError::code(self)
    }
}

impl Coded for BadRequest {
    fn code(&self) -> ErrorCode {
        BadRequest::code(self)
    }
}

impl Coded for BadLine {
    fn code(&self) -> ErrorCode {
        match self {
            BadLine::Unfinished | BadLine::Json(_) => ErrorCode::BadJson,
            BadLine::NoCommand | BadLine::NotText => ErrorCode::BadRequest,
        }
    }
}

impl Coded for LineTooLong {
    fn code(&self) -> ErrorCode {
        ErrorCode::LineTooLong
    }
}

impl Coded for DialError {
    fn code(&self) -> ErrorCode {
        match self {
            DialError::NoRoute { .. } => ErrorCode::NoRoute,
            DialError::ServiceUnknown { .. } => ErrorCode::UnknownService,
            DialError::Blocked { .. } => ErrorCode::Blocked,
            DialError::Secure { .. } => ErrorCode::SecureService,
            DialError::TimedOut { .. } => ErrorCode::Timeout,
            DialError::Refused { .. } | DialError::Tls { .. } | DialError::Local { .. } => {
                ErrorCode::ConnectFailed
            }
        }
    }
}

/// A reason that is said in one place only.
impl<T: fmt::Display> Coded for Reason<T> {
    fn code(&self) -> ErrorCode {
        self.0
    }
}

/// A code and its sentence.
pub(super) struct Reason<T>(pub(super) ErrorCode, pub(super) T);

impl<T: fmt::Display> fmt::Display for Reason<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.fmt(f)
    }
}

/// The code of a probe that did not arrive. A probe's errors are texts, since notices bring them across the mesh.
pub(super) fn of_probe(error: &str) -> ErrorCode {
    let problems = [
        (Problem::NoRoute.text(), ErrorCode::NoRoute),
        (Problem::Expired.text(), ErrorCode::TooManyHops),
        (Problem::ServiceUnknown.text(), ErrorCode::UnknownService),
        (Problem::Blocked.text(), ErrorCode::Blocked),
        ("timeout", ErrorCode::Timeout),
        ("netceptor shutdown", ErrorCode::Closing),
    ];
    let found = problems.into_iter().find(|(text, _)| *text == error);
    // What is left is told by this node itself: too many probes are open.
    found.map_or(ErrorCode::Busy, |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = include_str!("../../../docs/control.md");

    #[test]
    fn the_guide_lists_every_code_once_and_no_other() {
        let (_, section) = GUIDE.split_once("\n## Error codes\n").expect("the section");
        let section = section.split("\n## ").next().expect("its text");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut listed: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let mut known: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.word()).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }

    #[test]
    fn a_probe_that_did_not_arrive_has_the_code_of_its_problem() {
        for (error, code) in [
            ("no route to node", ErrorCode::NoRoute),
            ("message expired", ErrorCode::TooManyHops),
            ("timeout", ErrorCode::Timeout),
            ("4096 probes are waiting already: try again in a few seconds", ErrorCode::Busy),
        ] {
            assert_eq!(of_probe(error), code, "{error}");
        }
    }
}
