//! Goal: no figure is taken of a peer that does not do its work. Method: each one is given some
//! thousand records of each size while its consumer runs; how many come out, and the sum of their
//! bytes, must be what was put. Then one of each kind is measured for a moment in every case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rbpipe_peers::each::each;
use rbpipe_peers::measure::{noise, payload};
use rbpipe_peers::peer::{Case, Kind, Opened, Put, Visit, sum};
use rbpipe_peers::session::{PAYLOADS, Plan, Session};
use rbpipe_peers::table;

const RECORDS: usize = 10_000;
const SLICE: usize = 1000;

#[derive(Default)]
struct Passes {
    noise: Vec<u8>,
    passed: usize,
}

impl<const N: usize> Visit<N> for Passes {
    fn peer<P: Put<N> + 'static>(
        &mut self,
        name: &'static str,
        kind: Kind,
        open: impl Fn(Case) -> Opened<P>,
    ) {
        if !kind.has(Case::Drained) {
            return;
        }
        let Opened { mut puts, mut takes, taken, .. } = open(Case::Drained);
        let mut put = puts.pop().expect("a writer");
        let (records, sum_before) = (taken.records(), taken.sum());
        let (ended, mut wanted) = (Arc::new(AtomicBool::new(false)), 0u64);
        let ender = takes[0].ender();
        thread::scope(|scope| {
            let consumer = scope.spawn(|| takes[0].all(&ended, &taken));
            for from in (0..RECORDS).step_by(SLICE) {
                put.slice(|put| {
                    for i in from..from + SLICE {
                        let payload = payload(&self.noise, i);
                        while !put.put(payload) {
                            thread::yield_now();
                        }
                        wanted = wanted.wrapping_add(sum(payload));
                    }
                });
            }
            // The last records come out when a writer ends.
            drop(put);
            ended.store(true, Ordering::Release);
            ender();
            consumer.join().expect("the consumer");
        });
        assert_eq!(taken.records() - records, RECORDS as u64, "{name}, {N} bytes");
        assert_eq!(taken.sum().wrapping_sub(sum_before), wanted, "{name}, {N} bytes");
        self.passed += 1;
    }
}

/// One test: `fastrace` has one collector in a process.
#[test]
fn every_peer_passes_on_what_it_took() {
    let mut passes = Passes { noise: noise(), passed: 0 };
    each::<8>(&mut passes);
    each::<32>(&mut passes);
    each::<256>(&mut passes);
    assert_eq!(passes.passed, 3 * 17, "all of them");

    // One of each kind.
    let names = ["floor", "locked xadd", "rbpipe, per thread", "flume", "fastrace"];
    let only = names.map(str::to_owned).into();
    let plan = Plan { time: Duration::ZERO, least: 1, run: Duration::from_millis(1), only };
    let session = Session::run(&plan, &mut |_| ());
    let rows = session.rows();
    assert_eq!((session.rounds, rows.len()), (1, PAYLOADS.len() * names.len()));
    for row in &rows {
        let all = [row.alone, row.drained, row.two];
        let wanted = match row.kind.as_str() {
            "limit" => [true, false, true],
            "worker" => [false, true, false],
            _ => [true; 3],
        };
        assert_eq!(all.map(|s| s.is_some()), wanted, "{row:?}");
        assert!(all.iter().flatten().all(|s| s.mid > 0.0 && s.mid < 1e6), "{row:?}");
    }
    let shown = table::show(&rows, None);
    assert!(names.iter().all(|name| shown.contains(name)), "{shown}");
}
