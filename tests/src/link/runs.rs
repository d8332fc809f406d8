//! Many runs, on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::books::Figures;
use super::simulate::simulate;

/// Runs the seeds from `first` on, so many of them, and sums up.
///
/// # Panics
/// At the first run that is wrong: it says which.
#[must_use]
pub fn runs(first: u64, count: u64, threads: usize) -> Figures {
    let next = AtomicU64::new(first);
    let mut sum = Figures::default();
    std::thread::scope(|scope| {
        let run = || {
            let mut sum = Figures::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return sum;
                }
                match catch_unwind(AssertUnwindSafe(|| simulate(seed))) {
                    Ok(Ok(figures)) => sum.add(&figures),
                    Ok(Err(wrong)) => panic!("seed {seed}: {wrong}"),
                    Err(_) => panic!("seed {seed}: a panic"),
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            sum.add(&thread.join().expect("a run that is right"));
        }
    });
    sum
}
