//! Any bytes into any service neither panic nor keep the server from answering. The fuzzer in
//! `fuzz/` plays the same for longer.

#[path = "../fuzz/driver.rs"]
mod driver;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_server_answers_whatever_came_before(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(driver::note_panics);
        driver::play(&bytes);
        prop_assert!(!driver::panicked(), "something panicked; see above");
    }
}
