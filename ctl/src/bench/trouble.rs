//! Why a measurement could not be made.

use std::fmt::Display;

/// What was tried, and what came of it: for people, beside the row that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Trouble(pub(super) String);

/// What a measurement gives.
pub(super) type Tried<T> = Result<T, Trouble>;

impl Trouble {
    pub(super) fn new(text: impl Into<String>) -> Trouble {
        Trouble(text.into())
    }
}

/// Makes the trouble of an error: `.map_err(at("cannot do this"))`.
pub(super) fn at<E: Display>(what: impl Display) -> impl FnOnce(E) -> Trouble {
    move |error| Trouble(format!("{what}: {error}"))
}
