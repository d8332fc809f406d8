//! What does a record cost that is written while another one is reserved, as a signal handler does?
//! Two records one after the other, the second inside the first, and three inside each other, each
//! through a reservation; per record, and beside records that lie ready. One thread, 32 bytes
//! (overwrite, pages, no reader).

use std::hint::black_box;

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_benches::{channel, measuring, payload, seconds, spread};
use rbpipe_core::channel::{Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::frontend::Mode;

type Case = (&'static str, u32, fn(&Writer, ClassId, &[u8]));

/// `depth` records, each written while those before it are reserved.
#[inline(always)]
fn nested<const DEPTH: usize>(writer: &Writer, class: ClassId, bytes: &[u8]) {
    let open: [_; DEPTH] = std::array::from_fn(|_| writer.reserve(class, bytes.len()));
    // The innermost is done first.
    for mut record in open.into_iter().rev().flatten() {
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
        ("ready, one by one", 1, |w, c, b| _ = black_box(w.record(c, black_box(b)))),
        ("reserved, one by one", 1, nested::<1>),
        ("one inside another", 2, nested::<2>),
        ("three inside each other", 3, nested::<3>),
    ];
    let mut found = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, records, write), out) in cases.iter().zip(&mut found) {
            let turns = n / records;
            let t = seconds(|| (0..turns).for_each(|_| write(&writer, class, &bytes)));
            out.push(t * 1e9 / f64::from(turns * records));
        }
    }
    println!("ns a record: median [min max], ratio to reserved one by one");
    let base = spread(found[1].clone()).1;
    for ((name, ..), out) in cases.iter().zip(found) {
        let (low, mid, high) = spread(out);
        println!("{name:24} {mid:6.1} [{low:.1} {high:.1}]  × {:.2}", mid / base);
    }
}
