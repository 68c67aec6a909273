//! See `netmesh::fuzz::router`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::router(data));
