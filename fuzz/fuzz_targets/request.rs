//! See `workunits::fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::request(data));
