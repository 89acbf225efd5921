//! Any bytes as calls of any service: it must neither panic, nor hang, nor grow without bound.
#![no_main]

#[path = "../driver.rs"]
#[allow(dead_code, reason = "the fuzzer notes panics itself")]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driver::play(bytes));
