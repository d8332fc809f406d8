//! What does an event of the kernel's ring buffer cost to decode, beside merely walking from
//! event to event, and beside a copy of its page? The committed fixtures, each page again and
//! again; and pages of one kind alone: `sched_switch` and `sys_enter`, whose payloads lie in the page
//! (the aim: 10 ns), and two that are put together. One thread; medians with spread.

use std::collections::HashMap;
use std::hint::black_box;

use rbpipe::fuzz::{Cursor, Decoded, Formats};
use rbpipe_benches::{measuring, seconds, spread};
use rbpipe_tests::kernel::{fixtures, format_texts, formats, naive, recordings};

struct Case {
    name: String,
    pages: Vec<Vec<u8>>,
    events: usize,
}

/// Pages of at most this size, made of the fixtures' events of these ids.
fn only(name: &str, ids: &[u16], all: &[Vec<u8>], size: usize) -> Case {
    let (mut pages, mut data, mut count) = (Vec::new(), Vec::new(), 0);
    let events: Vec<Vec<u8>> = all
        .iter()
        .flat_map(|page| naive::events(page, &mut HashMap::new()))
        .filter(|e| ids.contains(&u16::from_le_bytes([e.bytes[0], e.bytes[1]])))
        .map(|e| e.bytes.to_vec())
        .collect();
    for event in events.iter().cycle().take(20_000) {
        if data.len() + 4 + event.len() > size - 16 {
            pages.push(page(&data));
            data.clear();
        }
        data.extend(((event.len() as u32 / 4) | (250 << 5)).to_le_bytes());
        data.extend(event);
        count += 1;
    }
    pages.push(page(&data));
    Case { name: name.into(), pages, events: count }
}

fn page(data: &[u8]) -> Vec<u8> {
    [&1u64.to_le_bytes(), &(data.len() as u64).to_le_bytes(), data].concat()
}

/// ns per event: what `f` takes for all pages.
fn per_event(case: &Case, mut f: impl FnMut(&[u8])) -> f64 {
    let turns = (200_000 / case.events.max(1)).max(1);
    let t = seconds(|| {
        for _ in 0..turns {
            case.pages.iter().for_each(|page| f(black_box(page)));
        }
    });
    t * 1e9 / (turns * case.events) as f64
}

fn decode(page: &[u8], decoded: &mut Decoded, formats: &Formats) {
    decoded.read(page, formats);
    for i in 0..decoded.len() {
        black_box(decoded.event(i, page));
    }
}

fn main() {
    let rounds = if measuring() { 15 } else { 1 };
    let dir = fixtures();
    let texts = format_texts(&dir);
    let formats = formats(&texts);
    let id = |name: &str| {
        let found = (0..formats.len()).map(|i| formats.get(i)).find(|f| f.name() == name);
        found.expect("a fixture has it").id()
    };
    let mut cases = Vec::new();
    let mut all = Vec::new();
    for recording in recordings(&dir) {
        let pages: Vec<Vec<u8>> = recording.pages.into_iter().flatten().collect();
        let count = |page: &Vec<u8>| naive::events(page, &mut HashMap::new()).len();
        let events = pages.iter().map(count).sum();
        all.extend(pages.iter().cloned());
        cases.push(Case { name: recording.name, pages, events });
    }
    for (size, label) in [(4 << 10, "4 KiB"), (64 << 10, "64 KiB")] {
        let (switch, enter) = (id("sched:sched_switch"), id("raw_syscalls:sys_enter"));
        cases.push(only(&format!("switch, {label}"), &[switch], &all, size));
        cases.push(only(&format!("enter, {label}"), &[enter], &all, size));
        // A copy each: there is a gap before the last field; there is a string.
        let (gap, text) = (id("ext4:ext4_mark_inode_dirty"), id("net:netif_rx"));
        cases.push(only(&format!("a gap, {label}"), &[gap], &all, size));
        cases.push(only(&format!("a string, {label}"), &[text], &all, size));
    }
    println!("ns per event: median [min max], copy of the page, walk, ratio to the walk");
    for case in &cases {
        let (mut copies, mut walks, mut decodes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut decoded, mut target) = (Decoded::default(), vec![0; 512 << 10]);
        for _ in 0..rounds {
            copies.push(per_event(case, |page| {
                target[..page.len()].copy_from_slice(page);
                black_box(&mut target);
            }));
            walks.push(per_event(case, |page| {
                let mut cursor = Cursor::new(page).expect("a header");
                let mut sum = 0;
                while let Ok(Some(event)) = cursor.next(page) {
                    sum ^= event.time ^ event.to as u64;
                }
                black_box(sum);
            }));
            decodes.push(per_event(case, |page| decode(page, &mut decoded, &formats)));
        }
        let (_, copy, _) = spread(copies);
        let (_, walk, _) = spread(walks);
        let (low, mid, high) = spread(decodes);
        println!(
            "{:17} {mid:5.2} [{low:.2} {high:.2}]  copy {copy:5.2}  walk {walk:5.2}  × {:.2}",
            case.name,
            mid / walk
        );
    }
}
