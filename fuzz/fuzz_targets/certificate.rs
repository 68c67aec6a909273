//! See `netmesh::fuzz::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netmesh::fuzz::certificate(data));
