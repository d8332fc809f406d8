//! What does each step of the engine cost by itself: reserve and commit of a record, and, once per
//! sub-buffer, opening one, the commit that completes it, claim and publish (delivery), and the
//! reader's exchange (get)? The frontend alone: no memory, no clock, no header; each step in a loop
//! of its own over many grants, so that the steps do not overlap. One thread, nobody else.

use std::hint::black_box;

use rbpipe_benches::{cpu_seconds, measuring, spread};
use rbpipe_core::frontend::{
    Claimed, Closing, Frontend, Geometry, Grant, Layout, Line, Measure, Mode, Timestamps,
};

/// Records of one size, at no time.
struct Of(u64);

impl Layout for Of {
    fn now(&mut self) -> u64 {
        1
    }
    fn measure(&mut self, now: u64, _: Option<u64>, _: u64) -> Measure {
        Measure { size: self.0, records: 1, end: now }
    }
}

const HEADER: u32 = 84;

fn ring(size: u64, count: u32, mode: Mode) -> Frontend<Box<[Line]>> {
    let geometry = Geometry::new(size, count, 1, HEADER).expect("a geometry");
    let needed = Frontend::<Box<[Line]>>::lines_needed(geometry);
    let lines: Box<[Line]> = std::iter::repeat_with(Line::default).take(needed).collect();
    Frontend::new(lines, geometry, mode, Timestamps::Clock).expect("enough lines")
}

/// ns a record, of reserve and of commit, in one sub-buffer.
fn records(n: usize, mode: Mode) -> [f64; 2] {
    let frontend = ring(64 << 20, 2, mode);
    let mut grants: Vec<Grant> = Vec::with_capacity(n);
    // The first one opens the sub-buffer.
    grants.extend(frontend.reserve(&mut Of(36)).map(|r| r.grant));
    let reserve = cpu_seconds(|| {
        for _ in 1..n {
            grants.extend(frontend.reserve_fast(black_box(&mut Of(36))));
        }
    });
    assert_eq!(grants.len(), n, "all of them fit");
    let commit = cpu_seconds(|| {
        for grant in grants {
            black_box(frontend.commit(grant));
        }
    });
    [reserve, commit].map(|t| t * 1e9 / n as f64)
}

/// ns a sub-buffer: a record that opens and fills it, its commit, claim, publish, get.
fn subbufs(mode: Mode) -> [f64; 5] {
    const COUNT: u32 = 256;
    let frontend = ring(4096, COUNT, mode);
    let n = COUNT as usize;
    let (mut grants, mut closings) = (Vec::with_capacity(n), Vec::<Closing>::with_capacity(n));
    let mut claimed: Vec<Claimed> = Vec::with_capacity(n);
    let mut spare = frontend.unnamed()[0];
    // The second time round: the first one is of memory that was never touched.
    let mut times = [0.0; 5];
    for _ in 0..2 {
        times[0] = cpu_seconds(|| {
            for _ in 0..n {
                let whole = 4096 - u64::from(HEADER);
                grants.extend(frontend.reserve(&mut Of(whole)).map(|r| r.grant));
            }
        });
        assert_eq!(grants.len(), n, "one for each sub-buffer");
        times[1] =
            cpu_seconds(|| closings.extend(grants.drain(..).filter_map(|g| frontend.commit(g))));
        assert_eq!(closings.len(), n, "each completes its sub-buffer");
        times[2] = cpu_seconds(|| claimed.extend(closings.drain(..).map(|c| frontend.claim(c))));
        times[3] = cpu_seconds(|| claimed.drain(..).for_each(|c| frontend.publish(c)));
        let mut taken = 0;
        times[4] = cpu_seconds(|| {
            while let Ok(held) = frontend.get(spare) {
                spare = held.memory();
                taken += 1;
            }
        });
        assert_eq!(taken, n, "each is taken");
    }
    times.map(|t| t * 1e9 / n as f64)
}

fn main() {
    let (rounds, n) = if measuring() { (31, 100_000) } else { (1, 1000) };
    println!("ns: median [min max]");
    for mode in [Mode::Discard, Mode::Overwrite] {
        let (mut fast, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            fast.push(records(n, mode));
            whole.push(subbufs(mode));
        }
        let show = |name: &str, values: Vec<f64>| {
            let (low, mid, high) = spread(values);
            println!("{:10} {name:38} {mid:6.1} [{low:.1} {high:.1}]", mode.name());
        };
        for (i, name) in ["reserve", "commit"].into_iter().enumerate() {
            show(&format!("a record: {name}"), fast.iter().map(|t| t[i]).collect());
        }
        let steps =
            ["reserve that opens it", "commit that completes it", "claim", "publish", "get"];
        for (i, name) in steps.into_iter().enumerate() {
            show(&format!("a sub-buffer: {name}"), whole.iter().map(|t| t[i]).collect());
        }
    }
}
