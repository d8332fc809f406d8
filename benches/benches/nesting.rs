//! What does a record cost that is written while another one is reserved, as a signal handler does?
//! A record inside another one, and one inside that, beside the same records one by one, ready and
//! through a reservation; CPU time per record. One thread, 32 bytes (overwrite, pages, no reader).

use std::hint::black_box;

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_benches::{channel, cpu_seconds, measuring, payload, spread};
use rbpipe_core::channel::{Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::frontend::Mode;

type Case = (&'static str, u32, fn(&Writer, ClassId, &[u8]));

fn ready(writer: &Writer, class: ClassId, bytes: &[u8]) {
    let _ = black_box(writer.record(class, black_box(bytes)));
}

/// A record, and what is done while it is reserved.
#[inline(always)]
fn reserved(writer: &Writer, class: ClassId, bytes: &[u8], inside: impl FnOnce()) {
    if let Ok(mut record) = writer.reserve(class, bytes.len()) {
        inside();
        record.write(black_box(bytes));
        record.commit();
    }
}

fn main() {
    let (rounds, n) = if measuring() { (15, 200_000) } else { (1, 1000) };
    let ring = (256 << 10, 8);
    let (channel, class) =
        channel::<Pages>(Config::default(), Mode::Overwrite, Streams::Single, ring);
    let (writer, bytes) = (channel.writer(), payload(32));
    let cases: [Case; 4] = [
        ("ready, one by one", 1, ready),
        ("reserved, one by one", 1, |w, c, b| reserved(w, c, b, || ())),
        ("one inside another", 2, |w, c, b| reserved(w, c, b, || ready(w, c, b))),
        ("three inside each other", 3, |w, c, b| {
            reserved(w, c, b, || reserved(w, c, b, || ready(w, c, b)));
        }),
    ];
    let mut found = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, records, write), out) in cases.iter().zip(&mut found) {
            let turns = n / records;
            let t = cpu_seconds(|| (0..turns).for_each(|_| write(&writer, class, &bytes)));
            out.push(t * 1e9 / f64::from(turns * records));
        }
    }
    println!("ns a record: median [min max], ratio to ready, one by one");
    let base = spread(found[0].clone()).1;
    for ((name, ..), out) in cases.iter().zip(found) {
        let (low, mid, high) = spread(out);
        println!("{name:24} {mid:6.1} [{low:.1} {high:.1}]  × {:.2}", mid / base);
    }
}
