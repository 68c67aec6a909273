//! A world of routers on one virtual clock, with seeded weather: loss, delay, cuts, restarts.
//!
//! Nothing sleeps: time jumps from one event to the next, so hours of mesh pass in a second. All chance comes from the
//! seed, so a world with an equal seed and an equal story has an equal [`World::trace`].
//!
//! ```
//! use netmesh::sim::World;
//!
//! let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1).link("a", "c", 5);
//! mesh.settle();
//! assert_eq!(mesh.path("a", "c"), ["a", "b", "c"]);
//! mesh.unplug("b", "c");
//! mesh.settle();
//! assert_eq!(mesh.path("a", "c"), ["a", "c"]);
//! ```

mod wire;
mod world;

pub use world::World;
