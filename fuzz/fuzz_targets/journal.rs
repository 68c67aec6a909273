//! See `workunits::fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::journal(data));
