//! Who shares a cache line with whom: nothing that the reader, an output or a sleeping writer
//! stores to is on a line that each record loads, and that line is one.

use std::mem::{align_of, offset_of, size_of};

use super::{StreamCore, Wake};
use crate::frontend::{Frontend, Line};

const LINE: usize = 64;

fn line(offset: usize) -> usize {
    offset / LINE
}

/// Goal: the state in front of the pointers costs a record one line, which only the maker of the
/// stream writes to. Method: the offsets of what a record loads, and of what others write.
#[test]
fn a_record_looks_at_one_line_of_its_stream_and_nobody_writes_to_that() {
    // An `Arc`'s counts lie before what it holds, and that begins on a line of its own.
    assert_eq!(align_of::<StreamCore>(), LINE);
    let frontend = offset_of!(StreamCore, frontend);
    let read = [
        frontend,
        frontend + size_of::<Frontend<super::Lines>>() - 1,
        offset_of!(StreamCore, bases) + size_of::<usize>() * 2 - 1,
        offset_of!(StreamCore, publish),
        offset_of!(StreamCore, origin),
    ];
    for offset in read {
        assert_eq!(line(offset), 0, "a record loads what is at {offset}");
    }
    let written = [
        offset_of!(StreamCore, space),
        offset_of!(StreamCore, delivered),
        offset_of!(StreamCore, counts),
        offset_of!(StreamCore, told),
        offset_of!(StreamCore, lent),
    ];
    for offset in written {
        assert_ne!(line(offset), 0, "others write to what is at {offset}");
    }
    // Waiting writers, deliverers and outputs each write to lines of their own.
    let apart = [written[0], written[1], written[2]].map(line);
    assert!(apart[0] < apart[1] && apart[1] < apart[2], "{apart:?}");
    assert!(size_of::<Wake>() <= LINE);
}

/// Goal: words that lie on different lines stay there. Method: a line's size and alignment.
#[test]
fn a_line_of_the_rings_state_is_a_cache_line() {
    assert_eq!((size_of::<Line>(), align_of::<Line>()), (LINE, LINE));
}
