//! Many runs, on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::books::Figures;
use super::simulate::simulate;

/// Runs the seeds from `first` on, so many of them, and sums up; with the seeds whose runs were
/// wrong, and what was. See [`simulate`].
///
/// # Panics
/// Never: a run that panics is a wrong one.
#[must_use]
pub fn runs(
    (first, count): (u64, u64),
    alike: bool,
    threads: usize,
) -> (Figures, Vec<(u64, String)>) {
    let next = AtomicU64::new(first);
    let mut all = (Figures::default(), Vec::new());
    std::thread::scope(|scope| {
        let run = || {
            let (mut sum, mut wrong) = (Figures::default(), Vec::new());
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return (sum, wrong);
                }
                match catch_unwind(AssertUnwindSafe(|| simulate(seed, alike))) {
                    Ok(Ok(figures)) => sum.add(&figures),
                    Ok(Err(what)) => wrong.push((seed, what)),
                    Err(_) => wrong.push((seed, "a panic".into())),
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            let (sum, wrong) = thread.join().expect("panics are caught");
            all.0.add(&sum);
            all.1.extend(wrong);
        }
    });
    all.1.sort();
    all
}
