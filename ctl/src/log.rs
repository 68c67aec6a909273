//! What the program tells about itself: one event a line, as text or JSON, on standard error.
//!
//! Standard output stays free for what a user asked for.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing::{field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    field::MakeExt as _,
    filter::Targets,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt as _,
    registry::Registry,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::LogLevel;

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Time, level, message, fields: for people.
    #[default]
    Text,
    /// One JSON object: for machines.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = BadLogFormat;
    fn from_str(text: &str) -> Result<LogFormat, BadLogFormat> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(BadLogFormat(text.to_owned())),
        }
    }
}

/// A text that names no [`LogFormat`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log format: write `text` or `json`")]
pub(crate) struct BadLogFormat(String);

/// Logging was started already, in this process.
#[derive(Debug, thiserror::Error)]
#[error("logging was started already: start it once per process")]
pub(crate) struct AlreadyStarted(#[from] tracing_subscriber::util::TryInitError);

/// Changes which events are written.
#[derive(Clone, Debug)]
pub(crate) struct Verbosity(reload::Handle<Targets, Registry>);

impl Verbosity {
    /// Writes events of `level` and above from now on.
    pub(crate) fn set(&self, level: LogLevel) {
        // It fails only when nothing is written any more.
        let _ = self.0.reload(filter(level));
    }
}

/// Writes events of `level` and above to standard error from now on, coloured only on a terminal.
///
/// # Errors
/// [`AlreadyStarted`] the second time.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> Result<Verbosity, AlreadyStarted> {
    let (subscriber, verbosity) = subscriber(level, format, io::stderr().is_terminal(), io::stderr);
    subscriber.try_init()?;
    Ok(verbosity)
}

/// Writes `text` with its control characters escaped.
///
/// What comes from other nodes, or from a file, may hold line ends and terminal codes: so nobody can write a line of
/// their own.
pub(crate) fn write_on_one_line(writer: &mut impl fmt::Write, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(writer, "{}", c.escape_default()),
        false => writer.write_char(c),
    })
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    colours: bool,
    writer: W,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, Verbosity)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(writer);
    let fields = debug_fn(write_field).delimited(" ");
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        LogFormat::Text => Box::new(registry.with(layer.fmt_fields(fields))),
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true).with_span_list(false))),
    };
    (subscriber, Verbosity(handle))
}

/// Writes `name=value`, or the message alone, on one line.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write_on_one_line(writer, &format!("{value:?}"))
}

/// Of the libraries below us only what may be wrong: their inner workings would bury ours.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ours = ["netmesh", "workunits"].map(|target| (target, level));
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn written(format: LogFormat, tell: impl FnOnce()) -> String {
        let page = Page::default();
        let pen = page.clone();
        let (subscriber, _) = subscriber(LogLevel::Info, format, false, move || pen.clone());
        tracing::subscriber::with_default(subscriber, tell);
        page.text()
    }

    #[test]
    fn an_event_is_one_line_of_text_without_colours() {
        let text = written(LogFormat::Text, || tracing::info!(peer = %"bar\x1b", "link\nup"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(r"link\nup"), "{text}");
        assert!(text.contains("INFO") && text.contains("peer=bar") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn an_event_is_one_json_object() {
        let text = written(LogFormat::Json, || tracing::warn!(peer = "bar", "link\nup"));
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["message"], "link\nup");
        assert_eq!((&event["level"], &event["peer"]), (&"WARN".into(), &"bar".into()));
        assert!(event["timestamp"].is_string());
    }

    #[test]
    fn the_libraries_below_us_tell_only_of_trouble() {
        let text = written(LogFormat::Text, || {
            tracing::info!(target: "quinn", "chatter");
            tracing::warn!(target: "quinn", "trouble");
        });
        assert!(!text.contains("chatter") && text.contains("trouble"), "{text}");
    }

    #[test]
    fn the_level_may_change_while_events_are_written() {
        let page = Page::default();
        let pen = page.clone();
        let (subscriber, verbosity) =
            subscriber(LogLevel::Error, LogFormat::Text, false, move || pen.clone());
        tracing::subscriber::with_default(subscriber, || {
            // One place in the code, so that what is remembered of it must change too.
            for (level, text) in
                [(LogLevel::Error, "no"), (LogLevel::Debug, "yes"), (LogLevel::Info, "nor this")]
            {
                verbosity.set(level);
                tracing::debug!("{text}");
            }
        });
        assert!(page.text().contains("yes") && page.text().lines().count() == 1, "{}", page.text());
    }

    #[test]
    fn events_below_the_level_are_not_written() {
        let text = written(LogFormat::Text, || tracing::debug!("no"));
        assert_eq!(text, "");
    }
}
