//! See `netmesh::fuzz::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::packet(data));
