//! The text form: words divided by single spaces, so that two spaces make an empty word.

use super::{Adopt, BadRequest, Output, Submit, WorkRequest};

pub(super) fn parse(words: &str) -> Result<WorkRequest, BadRequest> {
    let mut words = words.split(' ');
    let subcommand = words.next().unwrap_or_default().to_lowercase();
    let rest: Vec<&str> = words.collect();
    match subcommand.as_str() {
        "submit" => submit(&rest),
        "list" => {
            let unit = rest.first().map(|id| (*id).to_owned());
            Ok(WorkRequest::List { unit, request_id: None, all_fields: false })
        }
        "status" => Ok(WorkRequest::Status { unit: only_unit(&subcommand, &rest)?, all_fields: false }),
        "cancel" => {
            Ok(WorkRequest::Cancel { unit: only_unit(&subcommand, &rest)?, signature: String::new() })
        }
        "release" | "force-release" => Ok(WorkRequest::Release {
            unit: only_unit(&subcommand, &rest)?,
            force: subcommand == "force-release",
            signature: String::new(),
        }),
        "adopt" => match rest[..] {
            [node, unit] => Ok(WorkRequest::Adopt(Adopt {
                node: node.to_owned(),
                unit: unit.to_owned(),
                ..Adopt::default()
            })),
            _ => Err(BadRequest::AdoptNeeds),
        },
        "results" => results(&rest),
        _ => Err(BadRequest::BadCommand),
    }
}

fn submit(rest: &[&str]) -> Result<WorkRequest, BadRequest> {
    let [node, work_type, params @ ..] = rest else { return Err(BadRequest::SubmitNeeds) };
    let mut submit = Submit { node: (*node).into(), work_type: (*work_type).into(), ..Submit::default() };
    if !params.is_empty() {
        submit.params.insert("params".to_owned(), params.join(" "));
    }
    Ok(WorkRequest::Submit(Box::new(submit)))
}

fn only_unit(subcommand: &str, rest: &[&str]) -> Result<String, BadRequest> {
    match rest {
        [] => Err(BadRequest::NeedsUnit(subcommand.to_owned())),
        [unit] => Ok((*unit).to_owned()),
        _ => Err(BadRequest::TooMany(subcommand.to_owned())),
    }
}

fn results(rest: &[&str]) -> Result<WorkRequest, BadRequest> {
    let (unit, from) = match rest {
        [] => return Err(BadRequest::NeedsUnit("results".to_owned())),
        [unit] => (unit, 0),
        [unit, from] => (unit, position(from)?),
        _ => return Err(BadRequest::ResultsTooMany),
    };
    Ok(WorkRequest::Results { unit: (*unit).into(), from, output: Output::Stdout, signature: String::new() })
}

fn position(text: &str) -> Result<i64, BadRequest> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|bad: std::num::ParseIntError| {
        let why = match bad.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        BadRequest::BadPosition(text.to_owned(), why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_read_as_in_receptor() {
        for (words, text) in [
            ("", "bad command"),
            ("frob", "bad command"),
            ("watch x", "bad command"),
            ("submit", "work submit requires a target node and work type"),
            ("submit foo", "work submit requires a target node and work type"),
            ("status", "work status requires a unit ID"),
            ("force-release", "work force-release requires a unit ID"),
            ("cancel a b", "work cancel does not take parameters after the unit ID"),
            ("adopt bar", "work adopt requires a node and a unit ID of that node"),
            ("results", "work results requires a unit ID"),
            ("results a 1 2", "work results only takes a unit ID and optional start position"),
            (
                "results a x",
                "error converting start position to integer: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "results a 99999999999999999999",
                "error converting start position to integer: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(parse(words).unwrap_err().to_string(), text, "{words:?}");
        }
    }

    #[test]
    fn parameters_keep_their_spaces_and_the_subcommand_may_be_in_any_case() {
        let Ok(WorkRequest::Submit(submit)) = parse("SubMit foo sh -c 'a  b'") else { panic!() };
        assert_eq!(submit.params["params"], "-c 'a  b'");
        assert_eq!(
            parse("list "),
            Ok(WorkRequest::List { unit: Some(String::new()), request_id: None, all_fields: false })
        );
    }
}
