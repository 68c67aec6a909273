//! Who has a unit of another node: the node that asks about it, and the unit there that stands for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one that a unit was handed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Controller {
    /// The node that took it over.
    pub node: String,
    /// The unit of that node that stands for it.
    #[serde(rename = "UnitID")]
    pub unit_id: String,
}

/// As sentences have it.
impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} as its unit {}", self.node, self.unit_id)
    }
}
