//! See `workunits::fuzz::directory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::directory(data));
