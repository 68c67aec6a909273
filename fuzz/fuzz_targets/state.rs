//! See `workunits::fuzz::state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workunits::fuzz::state(data));
