//! The models of one field.

use super::super::bounds::LONGEST_PAYLOAD;
use super::super::coder::Coder;
use super::super::column::{Bytes, Numbers};
use super::super::layout::{End, Plain};
use super::Strange;

#[derive(Debug)]
pub(super) enum PlainModel {
    Number(Box<Numbers>),
    Bytes(Box<Bytes>),
    Elements { count: Box<Numbers>, elements: Box<Numbers> },
}

impl PlainModel {
    pub(super) fn new(how: Plain) -> Self {
        match how {
            Plain::Number { .. } => Self::Number(Box::new(Numbers::new())),
            Plain::Bytes { text, .. } => Self::Bytes(Box::new(Bytes::new(text))),
            Plain::Elements { .. } => Self::Elements {
                count: Box::new(Numbers::new()),
                elements: Box::new(Numbers::new()),
            },
        }
    }

    pub(super) fn reset(&mut self, how: Plain) {
        match (self, how) {
            (Self::Bytes(b), Plain::Bytes { text, .. }) => b.reset(text),
            (Self::Number(n), _) => **n = Numbers::new(),
            (Self::Elements { count, elements }, _) => {
                **count = Numbers::new();
                **elements = Numbers::new();
            }
            (it, how) => *it = Self::new(how),
        }
    }

    /// One field; the sender takes it off `rest`, both append it to `out`.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        how: Plain,
        rest: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Strange> {
        match (self, how) {
            (Self::Number(model), Plain::Number { size, signed }) => {
                one(model, c, size, signed, rest, out)
            }
            (Self::Bytes(model), Plain::Bytes { end, .. }) => {
                let whole = end.size(rest).filter(|_| C::WRITES);
                let mine = whole.and_then(|n| rest.split_off(..n)).unwrap_or(&[]);
                bytes(model, c, end, mine, out)
            }
            (Self::Elements { count, elements }, Plain::Elements { count: n, size, signed }) => {
                let n = match n {
                    Some(n) => n,
                    None => {
                        let n = rest.split_off(..4).unwrap_or(&[]);
                        let n = n.try_into().map_or(0, u32::from_le_bytes);
                        let n = count.code(c, n.into(), false);
                        let n = u32::try_from(n).map_err(|_| Strange)?;
                        out.extend(n.to_le_bytes());
                        n as usize
                    }
                };
                if n.checked_mul(size).is_none_or(|n| n > LONGEST_PAYLOAD) {
                    return Err(Strange);
                }
                (0..n).try_for_each(|_| one(elements, c, size, signed, rest, out))
            }
            _ => Err(Strange),
        }
    }
}

impl End {
    fn size(self, rest: &[u8]) -> Option<usize> {
        Plain::Bytes { end: self, text: false }.size(rest)
    }
}

fn one<C: Coder>(
    model: &mut Numbers,
    c: &mut C,
    size: usize,
    signed: bool,
    rest: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Strange> {
    let mine = rest.split_off(..size).unwrap_or(&[]);
    let (raw, _) = rbpipe_core::decode::raw(size, mine).unwrap_or((0, &[]));
    let unused = 64 - 8 * size as u32;
    let value = if signed { ((raw << unused) as i64 >> unused) as u64 } else { raw };
    let value = model.code(c, value, signed);
    out.extend_from_slice(&value.to_le_bytes()[..size]);
    Ok(())
}

fn bytes<C: Coder>(
    model: &mut Bytes,
    c: &mut C,
    end: End,
    mine: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Strange> {
    let begin = out.len();
    match end {
        End::Nul => {
            let text = mine.strip_suffix(&[0]).unwrap_or(mine);
            model.code(c, text, LONGEST_PAYLOAD, out).then_some(()).ok_or(Strange)?;
            if out[begin..].contains(&0) {
                return Err(Strange);
            }
            out.push(0);
        }
        End::Fixed(n) => {
            // Zeros at the end go without saying.
            let used = mine.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            let most = n.min(LONGEST_PAYLOAD);
            model.code(c, &mine[..used], most, out).then_some(()).ok_or(Strange)?;
            if n > LONGEST_PAYLOAD {
                return Err(Strange);
            }
            out.resize(begin + n, 0);
        }
        End::Count => {
            out.extend([0; 4]);
            let text = mine.get(4..).unwrap_or(&[]);
            model.code(c, text, LONGEST_PAYLOAD, out).then_some(()).ok_or(Strange)?;
            let n = (out.len() - begin - 4) as u32;
            out[begin..begin + 4].copy_from_slice(&n.to_le_bytes());
        }
        End::Payload => {
            model.code(c, mine, LONGEST_PAYLOAD, out).then_some(()).ok_or(Strange)?;
        }
    }
    Ok(())
}
