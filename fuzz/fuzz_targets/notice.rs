//! See `netmesh::fuzz::notice`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::notice(data));
