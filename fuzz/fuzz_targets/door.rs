//! See `netmesh::fuzz::door`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::door(data));
