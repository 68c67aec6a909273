//! See `netmesh::fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::message(data));
