//! See `netmesh::fuzz::greeting`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::greeting(data));
