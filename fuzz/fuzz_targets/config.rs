//! See `fuzz::config` in `ctl/src/config`. The program is no library: what its configuration needs is included here.
#![no_main]
// Most of the program, which uses these, is not here.
#![allow(dead_code, unused_imports)]

#[path = "../../ctl/src/certificate/mod.rs"]
mod certificate;
#[path = "../../ctl/src/config/mod.rs"]
mod config;
#[path = "../../ctl/src/log.rs"]
mod log;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz::config(data));
