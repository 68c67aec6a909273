//! May the other end of a link be the node that it says it is?

use crate::id::NodeId;

/// What the other end of a link has proved about who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Nothing, and nothing is asked of it: what it announces is believed.
    #[default]
    Unchecked,
    /// It has a certificate that was verified, or shows none although one is asked for.
    Certified {
        /// The nodes that its certificate names.
        nodes: Vec<String>,
        /// It must name one; otherwise a certificate that names none is good for every node.
        required: bool,
    },
}

/// A peer that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// As it should be.
    Plainly,
    /// Its certificate could be anyone's: to be told.
    Unnamed,
}

impl Identity {
    /// Whether the other end may be the peer that it `announced`, or why not.
    pub(super) fn may_be(&self, announced: &NodeId) -> Result<Accepted, String> {
        match self {
            Identity::Unchecked => Ok(Accepted::Plainly),
            Identity::Certified { nodes, .. } if nodes.iter().any(|node| node == announced.as_str()) => {
                Ok(Accepted::Plainly)
            }
            Identity::Certified { nodes, required: false } if nodes.is_empty() => Ok(Accepted::Unnamed),
            Identity::Certified { nodes, .. } if nodes.is_empty() => {
                Err("it shows no certificate that names a node, and `requirenodeid` asks for one".to_owned())
            }
            Identity::Certified { nodes, .. } => Err(format!("its certificate is for node {}", told(nodes))),
        }
    }
}

/// Names as a line of a log bears them: some, none for ever, and in one line.
fn told(nodes: &[String]) -> String {
    const NODES: usize = 8;
    const LETTERS: usize = 256;
    let visible = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    let plain = |node: &String| node.chars().take(LETTERS).map(visible).collect();
    nodes.iter().take(NODES).map(plain).collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(nodes: &[&str], required: bool) -> Result<Accepted, String> {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        Identity::Certified { nodes, required }.may_be(&NodeId::new("b").unwrap())
    }

    #[test]
    fn a_certificate_that_names_nodes_must_name_the_one_announced() {
        for required in [false, true] {
            assert_eq!(may_be(&["a", "b"], required), Ok(Accepted::Plainly));
            assert!(may_be(&["a", "B"], required).unwrap_err().contains("for node a, B"));
        }
    }

    #[test]
    fn a_name_counts_whole_and_is_told_in_part() {
        let long = "b".repeat(300);
        let told = may_be(&[&long], true).unwrap_err();
        assert!(told.chars().count() < 300, "{told}");
        let nodes = vec![long.clone(); 20];
        let identity = Identity::Certified { nodes, required: true };
        assert_eq!(identity.may_be(&NodeId::new(&long).unwrap()), Ok(Accepted::Plainly));
        assert!(identity.may_be(&NodeId::new(&long[..256]).unwrap()).is_err());
        let forged = may_be(&["a\nb"], true).unwrap_err();
        assert!(!forged.contains('\n'), "{forged}");
    }

    #[test]
    fn one_that_names_none_is_told_or_refused() {
        assert_eq!(may_be(&[], false), Ok(Accepted::Unnamed));
        assert!(may_be(&[], true).unwrap_err().contains("requirenodeid"));
        assert_eq!(Identity::Unchecked.may_be(&NodeId::new("b").unwrap()), Ok(Accepted::Plainly));
    }
}
