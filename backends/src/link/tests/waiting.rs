//! Frames that wait.

use super::edges::one;
use super::*;

#[test]
fn frames_that_wait_are_not_read_again_for_every_word() {
    let mut wire = Vec::new();
    edges::hello(&mut wire);
    edges::framed(Kind::Stream, &[0, 1, 0, 1, b'a'], &mut wire);
    // Frames that wait for class after class: each of a few bytes is read anew as one comes.
    let mut e = Encoder::new(LinkOptions { session: 1, tick: 1, frame: 4096, ..options() });
    let none: Vec<_> =
        (0..200).map(|i| Arc::new(EventClass::new(format!("c{i}"), vec![]))).collect();
    e.stream(who(0));
    let records: Vec<_> = (0..200).map(|i| one(i, 0, &[])).collect();
    let mut out = Vec::new();
    e.frame(0, 0, &none, &records, &mut out);
    let mut body = Vec::new();
    let (mut frames, mut say) = (Vec::new(), Vec::new());
    for piece in out.split(|b| *b == 0).filter(|p| wire::unframe(p, &mut Vec::new())) {
        wire::unframe(piece, &mut body);
        match wire::read_head(&body).unwrap() {
            (Kind::Data, _, rest) => frames.push(rest.to_vec()),
            (Kind::Class, _, rest) => say.push(rest.to_vec()),
            _ => {}
        }
    }
    assert_eq!(frames.len(), 1);
    // Behind a stream's number, base and what was sent (all of one byte here).
    let data = &frames[0];
    for i in 0..2000u64 {
        let mut rest = data[..2].to_vec();
        wire::number(i * 200, &mut rest);
        rest.extend(&data[3..]);
        edges::framed(Kind::Data, &rest, &mut wire);
    }
    for class in &say {
        edges::framed(Kind::Class, class, &mut wire);
    }
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&wire, &mut told);
    // They wait until their time is up, and are then read once more.
    assert!(d.health().waiting > 1500, "{:?}", d.health());
    d.end(&mut told);
    assert_eq!((told.records.len(), d.health().given_up), (400_000, 0), "{:?}", d.health());
    assert!(told.missing.is_empty());
}
