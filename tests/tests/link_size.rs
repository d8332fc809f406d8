//! Goal: what an event costs on a serial line stays what is promised. Method: the committed
//! recording of real `sched_switch` events is sent at their real times, frames, checks,
//! announcements and totals included, and its bytes are counted; what arrives is what was sent,
//! field by field. All of it is the same in each run. `RBPIPE_RECORDING=FILE` adds another one,
//! which is held to the order-0 bound computed from it (benches/recordings/record makes them).

use rbpipe_core::decode::value;
use rbpipe_tests::recording::bound::Bound;
use rbpipe_tests::recording::wire::{Arrived, options, sent};
use rbpipe_tests::recording::{Recording, chosen, sched_switch};

/// Bytes per event on the wire, once it is known that all of it arrives.
fn bytes_per_event(recording: &Recording, tick: u64) -> f64 {
    let wire = sent(recording, options(tick));
    assert_eq!(wire, sent(recording, options(tick)), "the same each time");
    let arrived = Arrived::of(&wire);
    assert_eq!(arrived.missing, [], "nothing is lost on this line");
    let streams = recording.link();
    assert_eq!(arrived.streams.len(), streams.len());
    let mut rows = 0;
    for (number, stream) in &arrived.streams {
        let (_, records) =
            streams.iter().find(|(s, _)| s == stream).expect("a stream that was sent");
        let came: Vec<_> = arrived.records.iter().filter(|r| r.stream == *number).collect();
        assert_eq!(came.len(), records.len(), "{stream:?}");
        for (came, sent) in came.iter().zip(records) {
            assert_eq!(came.time, sent.time / tick * tick);
            let class = arrived.classes.iter().find(|(n, _)| *n == came.class).expect("announced");
            assert_eq!(class.1, recording.class);
            let (mut a, mut b) = (&came.payload[..], sent.payload);
            for field in &recording.class.fields {
                let (x, y) =
                    (value(&field.ty, a).expect("a value"), value(&field.ty, b).expect("one"));
                assert_eq!(x.0, y.0, "{} at {}", field.name, came.time);
                (a, b) = (x.1, y.1);
            }
            assert_eq!(came.payload, sent.payload);
            rows += 1;
        }
        let totals = arrived.totals.iter().rfind(|(n, ..)| n == number).expect("they are told");
        assert_eq!((totals.1.produced, totals.2), (records.len() as u64, true));
    }
    assert_eq!(rows, recording.len());
    wire.len() as f64 / recording.len() as f64
}

#[test]
fn an_event_costs_what_is_promised() {
    let recording = sched_switch();
    assert!(recording.len() >= 60_000, "{}", recording.len());
    let micro = bytes_per_event(&recording, 1000);
    let nano = bytes_per_event(&recording, 1);
    println!("{micro:.3} bytes per event in µs, {nano:.3} in ns");
    assert!(micro <= 3.2, "{micro:.3} bytes per event in µs");
    assert!(nano <= 5.0, "{nano:.3} bytes per event in ns");
}

#[test]
fn an_event_is_near_the_order_0_bound() {
    let recording = chosen();
    let bound = Bound::of(&recording, 1000);
    let micro = bytes_per_event(&recording, 1000);
    let ratio = micro / bound.bytes();
    println!(
        "{} events, {bound:.3?}: {:.3} bytes; {micro:.3} on the wire: × {ratio:.2}",
        recording.len(),
        bound.bytes()
    );
    assert!(ratio <= 2.2, "{micro:.3} bytes per event are {ratio:.2} times {bound:.3?}");
}
