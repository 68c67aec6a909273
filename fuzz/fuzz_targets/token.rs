//! See `workunits::fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::token(data));
