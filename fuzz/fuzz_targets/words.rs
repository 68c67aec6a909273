//! See `workunits::fuzz::words`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::words(data));
