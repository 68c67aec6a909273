//! `netmesh config`: what is wrong with a configuration, and what counts in the end.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::{
    args::ConfigCommand,
    config::{Examined, LoadOptions, Origin, Problem, Shown},
    exit::{Code, Failure},
    paths,
};

/// Looks at a configuration, and starts nothing. `words` is how many words the command line has.
///
/// # Errors
/// When the output cannot be written; `show` also when there is a problem, which is told as at a start.
pub(crate) fn run(
    command: &ConfigCommand,
    load: &LoadOptions,
    words: usize,
    json: bool,
) -> Result<Code, Failure> {
    let (ConfigCommand::Check(args) | ConfigCommand::Show(args)) = command;
    let (sources, json_behind) = args.read(words);
    let json = json || json_behind;
    let examined = Examined::of(&sources, load);
    let shown = examined.show(|datadir| paths::socket_in(datadir).display().to_string());
    match (command, shown) {
        (ConfigCommand::Show(_), Some(shown)) => print(&show(&shown, json)).map(|()| Code::OK),
        (ConfigCommand::Show(_), None) if examined.problems.is_empty() => {
            let why = "nothing can be shown: these sections make certificates, and describe no node";
            Err(Failure::new(Code::NEGATIVE, why))
        }
        (ConfigCommand::Show(_), None) => {
            let told: Vec<String> = examined.problems.iter().map(Problem::to_string).collect();
            Err(Failure::new(Code::NEGATIVE, format!("nothing can be shown:\n{}", told.join("\n"))))
        }
        (ConfigCommand::Check(_), _) => {
            print(&check(&examined, json))?;
            Ok(if examined.problems.is_empty() { Code::OK } else { Code::NEGATIVE })
        }
    }
}

fn show(shown: &Shown, json: bool) -> String {
    if json { format!("{:#}\n", shown.to_json()) } else { shown.to_string() }
}

/// Problems first, then warnings, then how many there were.
fn check(examined: &Examined, json: bool) -> String {
    let (problems, warnings) = (&examined.problems, &examined.warnings);
    if json {
        let list = |of: &[Problem]| of.iter().map(to_json).collect::<Vec<Value>>();
        let told = json!({"ok": problems.is_empty(), "problems": list(problems), "warnings": list(warnings)});
        return format!("{told:#}\n");
    }
    let mut told = String::new();
    for problem in problems {
        told += &format!("{problem}\n");
    }
    for warning in warnings {
        told += &format!("warning: {warning}\n");
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    told + &format!("{}, {}\n", count(problems.len(), "problem"), count(warnings.len(), "warning"))
}

fn to_json(problem: &Problem) -> Value {
    let (file, argument) = match (&problem.origin, problem.at) {
        (Origin::File(file), _) => (Some(file.display().to_string()), None),
        (Origin::Arguments, at) => (None, at.map(|(position, _)| position)),
    };
    let at = problem.at.filter(|_| file.is_some());
    json!({
        "file": file,
        "line": at.map(|(line, _)| line),
        "column": at.map(|(_, column)| column),
        "argument": argument,
        "section": problem.section,
        "text": problem.text,
    })
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::output)
}
