//! The mesh.
pub mod id;
