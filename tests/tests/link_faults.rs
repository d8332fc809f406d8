//! Goal: whatever a line does, what arrives is what was sent, in order, and what does not is
//! counted: sent = delivered + lost on the line, offered = sent + lost in the ring, exactly, once
//! the last totals are there, and never more than that before. Method: senders, lines and
//! receivers that start anew, as seeds decide, on a clock of their own.
//!
//! `RBPIPE_LONG=1` runs 10,000 seeds; the example `link_faults` any number, with figures.

use rbpipe_tests::link::damage::{Damage, check, cost};
use rbpipe_tests::link::mixed::mixed;
use rbpipe_tests::link::{Figures, runs};

fn long() -> bool {
    std::env::var_os("RBPIPE_LONG").is_some()
}

fn right(count: u64, alike: bool) -> Figures {
    let (figures, wrong) = runs((0, count), alike, 2);
    eprintln!("{figures:?}");
    if let Some((seed, what)) = wrong.first() {
        panic!("{} runs of {count} were wrong. Seed {seed}: {what}", wrong.len());
    }
    figures
}

/// The heads of two senders' frames may be the same by chance: one in some hundred.
#[test]
fn senders_whose_frames_look_alike_are_told_apart() {
    right(if long() { 10_000 } else { 400 }, true);
}

#[test]
fn the_books_are_exact_whatever_the_line_does() {
    let count = if long() { 10_000 } else { 400 };
    let figures = right(count, false);
    assert_eq!(figures.runs, count);
    // Every kind of trouble was there, and did harm.
    assert!(figures.faults > count && figures.line > count && figures.ring > count);
    assert!(figures.unplugs > count / 10 && figures.resets > count / 10);
    assert!(figures.joins > count / 10 && figures.exact > count);
    assert!(figures.delivered > figures.sent / 2);
}

#[test]
fn a_damaged_frame_is_never_taken_for_a_whole_one() {
    let count = if long() { 12_500_000 } else { 20_000 };
    for damage in Damage::ALL {
        let (damaged, taken) = check(1, damage, count);
        assert!(damaged >= count);
        assert_eq!(taken, 0, "{damage:?}: of {damaged}");
    }
}

#[test]
fn one_error_costs_one_frame() {
    for mixed in [false, true] {
        for damage in [Damage::Flips(1), Damage::Drop, Damage::Double, Damage::Burst] {
            let cost = cost(2, damage, mixed, if long() { 3000 } else { 300 });
            eprintln!("{damage:?}, mixed: {mixed}: {cost:.3} frames an error");
            assert!(cost <= 1.1, "{damage:?}, mixed: {mixed}: {cost} frames");
            assert!(cost >= 0.8, "{damage:?}, mixed: {mixed}: {cost} frames: what was damaged?");
        }
    }
}

#[test]
fn text_and_frames_on_a_clean_line_do_not_mix() {
    let clean = mixed(3, (6000, 2000), 40, 0.0);
    assert_eq!((clean.lines, clean.leaked), ((2000, 2000, 2000), 0), "{clean:?}");
    assert_eq!(clean.frames.0, clean.frames.1, "{clean:?}");
}

/// Of lines of 20 bytes, a bit error rate of 1e-4 leaves 98.4 % as they are; of longer ones fewer.
#[test]
fn noise_leaks_little_into_text_and_costs_few_lines() {
    for (width, flip) in [(20, 1e-5), (20, 1e-4), (80, 1e-4)] {
        let noise = mixed(4, (6000, 2000), width, flip);
        eprintln!("width {width}, bit error rate {flip}: {noise:?}");
        let (sent, left, came) = noise.lines;
        assert!(noise.leaked <= 50, "{noise:?}");
        assert!(width > 20 || came * 100 >= sent * 98, "{noise:?}");
        assert!(came * 1000 >= left * 995, "lines that the line left whole: {noise:?}");
        assert!(noise.frames.1 < noise.frames.0, "{noise:?}");
    }
}
