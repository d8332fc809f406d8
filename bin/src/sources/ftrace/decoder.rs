//! From a page of the kernel's ring buffer to records: each event's time, its format, and its
//! payload as `rbpipe_core::class` lays it out.
//!
//! Most payloads are the event's own bytes, where they lie. The others are put together in
//! memory that is used again from page to page. What this file does not do: open, read, count
//! losses, know of CPUs.

use rbpipe_core::class::{ClassRegistry, EventClass};

use super::fields::{Layout, Piece, Place};
use super::format::Format;
pub use super::format::FormatError;
use super::page::Cursor;
pub use super::page::{Missed, PageError};

/// An event's format.
#[derive(Clone, Debug)]
pub struct EventFormat {
    id: u16,
    class: EventClass,
    plan: Plan,
}

/// How a payload comes out of an event's bytes.
#[derive(Clone, Debug)]
struct Plan {
    /// An event has so many bytes at least.
    shortest: u32,
    /// So many bytes from its first one are the payload; otherwise the pieces are.
    whole: Option<u32>,
    pieces: Box<[Piece]>,
}

impl EventFormat {
    /// Of the text of `events/SYSTEM/NAME/format`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(system: &str, name: &str, text: &str) -> Result<Self, FormatError> {
        let format = Format::parse(text)?;
        let layout = Layout::of(&format);
        let class = EventClass::new(format!("{system}:{name}"), layout.fields);
        let checked = ClassRegistry::new().register(class.clone());
        checked.map_err(|e| FormatError::Class(e.to_string()))?;
        let whole = match layout.pieces[..] {
            [Piece::Bytes { from: 0, size }] => Some(size as u32),
            _ => None,
        };
        let shortest = layout.shortest as u32;
        let plan = Plan { shortest, whole, pieces: layout.pieces.into() };
        Ok(Self { id: format.id, class, plan })
    }
    /// What the kernel's records of it begin with.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }
    /// Its class in a trace.
    #[must_use]
    pub fn class(&self) -> &EventClass {
        &self.class
    }
    /// `SYSTEM:NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.class.name
    }
}

/// All event formats of one source, found by the kernel's ids.
#[derive(Clone, Debug, Default)]
pub struct Formats {
    list: Vec<EventFormat>,
    /// By the kernel's id: the place in the list, and one; 0: none.
    places: Vec<u32>,
    /// What is looked at for each event, in the order of the list.
    sizes: Vec<Sizes>,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    shortest: u32,
    /// 0: in pieces.
    whole: u32,
}

impl Formats {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds an event and gives its place; one of the same id before it is no longer found.
    pub fn add(&mut self, format: EventFormat) -> usize {
        let (place, id) = (self.list.len(), usize::from(format.id));
        if self.places.len() <= id {
            self.places.resize(id + 1, 0);
        }
        self.places[id] = place as u32 + 1;
        let Plan { shortest, whole, .. } = format.plan;
        self.sizes.push(Sizes { shortest, whole: whole.unwrap_or(0) });
        self.list.push(format);
        place
    }
    /// The event at this place.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn get(&self, place: usize) -> &EventFormat {
        &self.list[place]
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    #[inline]
    fn place(&self, id: u16) -> Option<usize> {
        let place = *self.places.get(usize::from(id))?;
        (place as usize).checked_sub(1)
    }
}

/// What one page held. Kept, and used again for the next page: then nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// Lost before the first event.
    pub missed: Option<Missed>,
    /// The page's own time; no event of it is earlier.
    pub time: u64,
    /// What is wrong with the page, if anything is: the events before that count.
    pub broken: Option<PageError>,
    /// Events whose id has no format here.
    pub unknown: u64,
    /// Events that are shorter than their format says. They are left out.
    pub short: u64,
    /// Fields whose bytes lie outside their event. They are empty.
    pub damaged: u64,
    entries: Vec<Entry>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    time: u64,
    place: u32,
    from: u32,
    size: u32,
    /// In the page; else in `scratch`.
    in_page: bool,
}

impl Decoded {
    /// Reads a page; what was read before is gone.
    pub fn read(&mut self, page: &[u8], formats: &Formats) {
        self.entries.clear();
        self.scratch.clear();
        (self.missed, self.time, self.broken) = (None, 0, None);
        (self.unknown, self.short, self.damaged) = (0, 0, 0);
        let mut cursor = match Cursor::new(page) {
            Ok(cursor) => cursor,
            Err(e) => {
                self.broken = Some(e);
                return;
            }
        };
        (self.missed, self.time) = (cursor.missed(), cursor.time());
        loop {
            match cursor.next(page) {
                Ok(Some(event)) => self.event_at(event.time, event.from, event.to, page, formats),
                Ok(None) => return,
                Err(e) => {
                    self.broken = Some(e);
                    return;
                }
            }
        }
    }

    #[inline]
    fn event_at(&mut self, time: u64, from: usize, to: usize, page: &[u8], formats: &Formats) {
        let bytes = &page[from..to];
        let id = bytes.first_chunk().map(|id| u16::from_le_bytes(*id));
        let Some(place) = id.and_then(|id| formats.place(id)) else {
            self.unknown += 1;
            return;
        };
        let Sizes { shortest, whole } = formats.sizes[place];
        if bytes.len() < shortest as usize {
            self.short += 1;
            return;
        }
        let entry = if whole != 0 {
            Entry { time, place: place as u32, from: from as u32, size: whole, in_page: true }
        } else {
            let begin = self.scratch.len();
            self.damaged += put(&formats.list[place].plan.pieces, bytes, &mut self.scratch);
            let size = (self.scratch.len() - begin) as u32;
            Entry { time, place: place as u32, from: begin as u32, size, in_page: false }
        };
        self.entries.push(entry);
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// The last event's time.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.entries.last().map(|e| e.time)
    }
    /// Of an event: its time, its place in the formats, its payload. The page must be the one
    /// that was read.
    ///
    /// # Panics
    /// There is no such event, or the page is a shorter one.
    #[inline]
    #[must_use]
    pub fn event<'a>(&'a self, i: usize, page: &'a [u8]) -> (u64, usize, &'a [u8]) {
        let e = &self.entries[i];
        let bytes = if e.in_page { page } else { &self.scratch };
        let from = e.from as usize;
        (e.time, e.place as usize, &bytes[from..from + e.size as usize])
    }
}

/// Puts a payload together; gives how many of its fields lie outside the event.
fn put(pieces: &[Piece], event: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut damaged = 0;
    // The kernel puts variable data behind each other, once: so they have an end in all.
    let mut left = event.len();
    for piece in pieces {
        match *piece {
            Piece::Bytes { from, size } => out.extend_from_slice(&event[from..from + size]),
            Piece::Text(place) => {
                let bytes = located(place, event, &mut left, &mut damaged);
                let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
                out.extend_from_slice(&bytes[..end]);
                out.push(0);
            }
            Piece::Elements(place, size) => {
                let bytes = located(place, event, &mut left, &mut damaged);
                let count = bytes.len() / size;
                out.extend_from_slice(&(count as u32).to_le_bytes());
                out.extend_from_slice(&bytes[..count * size]);
            }
        }
    }
    damaged
}

/// The bytes of a field of any length; none where they cannot be.
fn located<'a>(place: Place, event: &'a [u8], left: &mut usize, damaged: &mut u64) -> &'a [u8] {
    let bytes = match place {
        Place::Rest(from) => event.get(from..),
        Place::Located { at, base } => {
            let word =
                event.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b));
            word.and_then(|word| {
                let (from, size) = (base + (word & 0xFFFF) as usize, (word >> 16) as usize);
                event.get(from..from + size)
            })
        }
    };
    match bytes.filter(|b| b.len() <= *left) {
        Some(bytes) => {
            *left -= bytes.len();
            bytes
        }
        None => {
            *damaged += 1;
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbpipe_core::class::{FieldType, Integer};
    use rbpipe_core::decode::{Value, value};

    fn format(fields: &str) -> EventFormat {
        let text = format!(
            "name: e\nID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\t\
             signed:0;\n\n{fields}\nprint fmt: \"%s\", REC->rest\n"
        );
        EventFormat::parse("s", "e", &text).unwrap()
    }

    fn page(events: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        for event in events {
            assert!(event.len() % 4 == 0);
            data.extend(((event.len() as u32 / 4) | (1 << 5)).to_le_bytes());
            data.extend(*event);
        }
        let mut page = 5u64.to_le_bytes().to_vec();
        page.extend((data.len() as u64).to_le_bytes());
        page.extend(data);
        page
    }

    /// The values of an event's own fields, and how many were damaged.
    fn one(fields: &str, event: &[u8]) -> (Vec<String>, u64) {
        let mut formats = Formats::new();
        formats.add(format(fields));
        let page = page(&[event]);
        let mut decoded = Decoded::default();
        decoded.read(&page, &formats);
        assert_eq!((decoded.len(), decoded.broken), (1, None));
        let (time, place, mut rest) = decoded.event(0, &page);
        assert_eq!((time, place), (6, 0));
        let mut out = Vec::new();
        for field in &formats.get(0).class().fields {
            let (v, after) = value(&field.ty, rest).unwrap();
            out.push(match v {
                Value::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
                Value::Elements(_, bytes) => format!("{bytes:?}"),
                Value::Unsigned(v, _) => v.to_string(),
                Value::Signed(v, _) => v.to_string(),
                other => format!("{other:?}"),
            });
            rest = after;
        }
        assert!(rest.is_empty());
        (out.split_off(1), decoded.damaged)
    }

    const LOCATED: &str = "\tfield:__data_loc char[] a;\toffset:4;\tsize:4;\tsigned:0;\n\
         \tfield:__rel_loc u16[] b;\toffset:8;\tsize:4;\tsigned:0;\n";

    fn located(a: (u16, u16), b: (u16, u16)) -> Vec<u8> {
        let mut event = vec![7, 0, 0, 0];
        for (place, size) in [a, b] {
            event.extend(place.to_le_bytes());
            event.extend(size.to_le_bytes());
        }
        event.extend(b"hey\0\x01\x00\x02\x00");
        event
    }

    #[test]
    fn located_fields() {
        let values = |a: (u16, u16), b: (u16, u16)| one(LOCATED, &located(a, b));
        let of = |a: &str, b: &str, damaged| (vec![a.to_owned(), b.to_owned()], damaged);
        // A place of `__rel_loc` counts from behind its own word.
        assert_eq!(values((12, 4), (4, 4)), of("\"hey\"", "[1, 0, 2, 0]", 0));
        assert_eq!(values((12, 2), (4, 3)), of("\"he\"", "[1, 0]", 0), "no NUL; half an element");
        assert_eq!(values((12, 0), (8, 0)), of("\"\"", "[]", 0), "nothing, at the very end");
        assert_eq!(values((20, 4), (4, 4)), of("\"\"", "[1, 0, 2, 0]", 1), "behind the end");
        assert_eq!(values((18, 4), (8, 1)), of("\"\"", "[]", 2));
        assert_eq!(values((0xFFFF, 0xFFFF), (0xFFFF, 0)), of("\"\"", "[]", 2));
        // More than the event has: it cannot be both.
        assert_eq!(values((0, 20), (0, 8)).1, 1);
    }

    #[test]
    fn the_rest_of_an_event() {
        let rest = |ty: &str, event: &[u8]| {
            one(&format!("\tfield:{ty};\toffset:4;\tsize:0;\tsigned:0;\n"), event)
        };
        let one = |text: &str| (vec![text.to_owned()], 0);
        assert_eq!(rest("char rest[]", b"\x07\0\0\0hi\0\0"), one("\"hi\""));
        assert_eq!(rest("char rest[]", b"\x07\0\0\0hihi"), one("\"hihi\""));
        assert_eq!(rest("char rest[]", b"\x07\0\0\0"), one("\"\""));
        assert_eq!(rest("char buf[]", b"\x07\0\0\0hi\0\0"), one("[104, 105, 0, 0]"));
        let twelve = [7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9];
        assert_eq!(rest("unsigned long args[]", &twelve), one("[1, 2, 3, 4, 5, 6, 7, 8]"));
    }

    #[test]
    fn names_are_unique() {
        let field = |name: &str, ty: &str, at| {
            format!("\tfield:{ty} {name};\toffset:{at};\tsize:4;\tsigned:0;\n")
        };
        let format = format(
            &[
                field("a", "int", 4),
                field("a", "int", 8),
                field("_b_length", "int", 12),
                field("b", "__data_loc u8[]", 16),
                field("c", "__data_loc u8[]", 20),
                field("_c_length", "int", 24),
                field("3d", "int", 28),
            ]
            .concat(),
        );
        let names: Vec<_> = format.class().fields.iter().map(|f| f.name.as_str()).collect();
        let expected = ["common_type", "a", "a_2", "_b_length", "b_2", "c", "_c_length_2", "_3d"];
        assert_eq!(names, expected);
    }

    #[test]
    fn neighbours_are_one_piece_and_lie_in_the_page() {
        let mut formats = Formats::new();
        formats.add(format(
            "\tfield:char comm[4];\toffset:2;\tsize:4;\tsigned:0;\n\
             \tfield:short n;\toffset:6;\tsize:2;\tsigned:1;\n",
        ));
        let page = page(&[&[7, 0, b'a', b'b', 0, b'x', 0xFE, 0xFF]]);
        let mut decoded = Decoded::default();
        decoded.read(&page, &formats);
        let (_, _, payload) = decoded.event(0, &page);
        assert!(std::ptr::eq(payload, &page[20..28]), "not a copy");
        let fields = &formats.get(0).class().fields;
        let text = FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 4);
        assert_eq!(
            (&fields[1].ty, &fields[2].ty),
            (&text, &FieldType::Integer(Integer::signed(16)))
        );
    }

    #[test]
    fn what_is_not_known_and_what_is_too_short() {
        let mut formats = Formats::new();
        formats.add(format("\tfield:int a;\toffset:4;\tsize:4;\tsigned:1;\n"));
        let (known, unknown, short) = ([7, 0, 0, 0, 1, 0, 0, 0], [8, 0, 0, 0], [7, 0, 0, 0]);
        let page = page(&[&known, &unknown, &short, &known, &[0xFF; 8]]);
        let mut decoded = Decoded::default();
        for _ in 0..2 {
            decoded.read(&page, &formats);
            assert_eq!((decoded.len(), decoded.unknown, decoded.short), (2, 2, 1));
            assert_eq!(decoded.event(1, &page).0, 5 + 4, "their times count");
        }
        decoded.read(&[], &formats);
        assert_eq!((decoded.len(), decoded.unknown, decoded.broken.is_some()), (0, 0, true));
    }
}
