//! See `netmesh::fuzz::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::proxy(data));
