//! Who sleeps is woken.

use super::*;
use crate::wake::Wake;

/// "Delivered, then look whether somebody sleeps" against "say that I sleep, then look again":
/// one of them sees the other, also when another sleeper comes in between and finds what it
/// waits for.
#[test]
fn no_wake_up_is_lost() {
    explore(3, || {
        let wake = Arc::new(Wake::new());
        let delivered = Arc::new(AtomicU64::new(0));
        let sleeper = || {
            let (wake, delivered) = (Arc::clone(&wake), Arc::clone(&delivered));
            thread::spawn(move || {
                let ticket = wake.prepare();
                (ticket, delivered.load(Ordering::Acquire) == 1)
            })
        };
        let (a, b) = (sleeper(), sleeper());
        delivered.store(1, Ordering::Release);
        wake.wake();
        for (ticket, seen) in [a.join().unwrap(), b.join().unwrap()] {
            assert!(seen || !wake.would_sleep(&ticket), "it would sleep with something to read");
        }
    });
}

/// The same with the frontend's own words: a delivery and a reader that looks for a packet.
#[test]
fn a_delivery_wakes_a_reader_that_goes_to_sleep() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let wake = Arc::new(Wake::new());
        let reader = {
            let wake = Arc::clone(&wake);
            spawn(&model, move |m| {
                let ticket = wake.prepare();
                (!m.frontend.has_packet()).then_some(ticket)
            })
        };
        model.write(10);
        model.write(11);
        wake.wake();
        if let Some(ticket) = reader.join().unwrap() {
            assert!(!wake.would_sleep(&ticket), "it would sleep with a packet to take");
        }
    });
}
