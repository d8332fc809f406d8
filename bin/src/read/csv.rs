//! Events as CSV (RFC 4180): a header line, then a line for each event.
//!
//! The columns `time` (ns since the epoch), `stream`, `cpu` and `name` come first. Then one
//! column for each field, where all events have the same ones or `--fields` names them; else
//! one column `fields` with the fields as JSON. Values are as they are: nothing is escaped but
//! the quotes, as spreadsheets and programs want it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use rbpipe_core::class::{EventClass, FieldType};
use rbpipe_core::decode::{Value, value};

use super::event::{Event, Lost};
use super::merge::Print;
use super::print::{BUFFER, flush_if_full, json_text, number, put};
use crate::status::say;

const FIXED: [&str; 4] = ["time", "stream", "cpu", "name"];

/// Prints events as CSV.
pub struct Csv {
    line: Vec<u8>,
    cell: Vec<u8>,
    /// The columns after the fixed ones; `None`: `fields` as JSON.
    columns: Option<Vec<String>>,
    /// The columns were not asked for: what a later event has beside them is said.
    chosen: bool,
    begun: bool,
    plans: Vec<Plan>,
    /// By the address of a class (which its plan keeps).
    places: HashMap<usize, usize>,
    recent: (usize, usize),
}

struct Plan {
    class: Arc<EventClass>,
    /// The name as a cell.
    name: Vec<u8>,
    /// For each column, the field and whether its length is meant.
    columns: Vec<Option<(usize, bool)>>,
}

/// The fields of a class as columns, lengths of sequences (as JSON has them) left out.
fn columns_of(class: &EventClass) -> Vec<String> {
    let name = |f: &str| {
        if FIXED.contains(&f) || f == "fields" { format!("fields.{f}") } else { f.to_owned() }
    };
    class.fields.iter().map(|f| name(&f.name)).collect()
}

impl Csv {
    /// `fields`: what was asked for; `classes`: those that are selected, as far as they are
    /// known.
    pub fn new(fields: &[String], classes: &[Arc<EventClass>]) -> Self {
        let columns = match classes {
            _ if !fields.is_empty() => Some(fields.to_vec()),
            [first, rest @ ..] if rest.iter().all(|c| c.name == first.name) => {
                // Two classes of one name: the fields of both.
                let mut all = columns_of(first);
                for name in rest.iter().flat_map(|c| columns_of(c)) {
                    if !all.contains(&name) {
                        all.push(name);
                    }
                }
                Some(all)
            }
            _ => None,
        };
        Self {
            line: Vec::with_capacity(BUFFER + 4096),
            cell: Vec::new(),
            columns,
            chosen: fields.is_empty(),
            begun: false,
            plans: Vec::new(),
            places: HashMap::new(),
            recent: (0, 0),
        }
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.line.extend_from_slice(FIXED.join(",").as_bytes());
        match &self.columns {
            None => self.line.extend_from_slice(b",fields"),
            Some(names) => {
                for name in names {
                    self.line.push(b',');
                    text_cell(&mut self.line, name.as_bytes());
                }
            }
        }
        self.line.extend_from_slice(b"\r\n");
    }

    fn plan(&mut self, class: &Arc<EventClass>) -> usize {
        let key = Arc::as_ptr(class) as usize;
        if self.recent.0 == key {
            return self.recent.1;
        }
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                self.plans.push(Plan::new(class, self.columns.as_deref(), self.chosen));
                self.places.insert(key, self.plans.len() - 1);
                self.plans.len() - 1
            }
        };
        self.recent = (key, place);
        place
    }
}

impl Plan {
    fn new(class: &Arc<EventClass>, columns: Option<&[String]>, chosen: bool) -> Self {
        let mut name = Vec::new();
        text_cell(&mut name, class.name.as_bytes());
        let find = |column: &String| {
            let field = column.strip_prefix("fields.").unwrap_or(column);
            let place = |name: &str| class.fields.iter().position(|f| f.name == name);
            place(field).map(|p| (p, false)).or_else(|| {
                let of = field.strip_prefix('_')?.strip_suffix("_length")?;
                let p = place(of)?;
                matches!(class.fields[p].ty, FieldType::Sequence(_)).then_some((p, true))
            })
        };
        if let (true, Some(columns)) = (chosen, columns) {
            let other = columns_of(class).into_iter().filter(|c| !columns.contains(c));
            let other: Vec<_> = other.collect();
            if !other.is_empty() {
                let name: String = class.name.escape_debug().collect();
                say!(
                    "rbpipe read: {name} appeared later and has no column for {}: name the \
                     columns with --fields, or select events with --event",
                    other.join(", ")
                );
            }
        }
        let columns = columns.unwrap_or_default().iter().map(find).collect();
        Self { class: Arc::clone(class), name, columns }
    }
}

impl Print for Csv {
    fn event(&mut self, out: &mut impl Write, event: &Event<'_>) -> io::Result<()> {
        let Event { time, from, class, payload } = *event;
        self.begin();
        let plan = self.plan(class);
        let line = &mut self.line;
        number(line, time);
        line.push(b',');
        number(line, from.stream);
        line.push(b',');
        if let Some(cpu) = from.cpu() {
            number(line, cpu.into());
        }
        line.push(b',');
        let plan = &self.plans[plan];
        line.extend_from_slice(&plan.name);
        if self.columns.is_some() {
            cells(line, &mut self.cell, out, plan, payload)?;
        } else {
            line.extend_from_slice(b",\"");
            json(line, &mut self.cell, out, &plan.class, payload)?;
            line.push(b'"');
        }
        line.extend_from_slice(b"\r\n");
        flush_if_full(line, out)
    }

    fn lost(&mut self, _: &mut impl Write, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.begin();
        out.write_all(&self.line)?;
        self.line.clear();
        out.flush()
    }
}

/// One cell for each column.
fn cells(
    line: &mut Vec<u8>,
    cell: &mut Vec<u8>,
    out: &mut impl Write,
    plan: &Plan,
    payload: &[u8],
) -> io::Result<()> {
    // Columns in the order of the fields are the usual case: one walk.
    let (mut at, mut rest) = (0, payload);
    for column in &plan.columns {
        line.push(b',');
        let Some((place, length)) = *column else { continue };
        if place < at {
            (at, rest) = (0, payload);
        }
        let fields = &plan.class.fields;
        while at < place {
            let Some((_, next)) = value(&fields[at].ty, rest) else { return Ok(()) };
            (at, rest) = (at + 1, next);
        }
        if length {
            number(line, rest.first_chunk().map_or(0, |n| u32::from_le_bytes(*n)).into());
            continue;
        }
        let Some((v, next)) = value(&fields[place].ty, rest) else { return Ok(()) };
        (at, rest) = (place + 1, next);
        match v {
            Value::Text(t) => text_cell(line, t),
            Value::Enum(_, Some(label)) => text_cell(line, label.as_bytes()),
            // As pandas reads them.
            Value::Float(v) if v.is_nan() => line.extend_from_slice(b"NaN"),
            Value::Float(v) => write!(line, "{v}")?,
            Value::Elements(..) => {
                line.push(b'"');
                let mut quoted = Quoted { line, out };
                put(cell, &mut quoted, true, &v)?;
                quoted.write_all(cell)?;
                cell.clear();
                line.push(b'"');
            }
            _ => put(line, out, true, &v)?,
        }
        flush_if_full(line, out)?;
    }
    Ok(())
}

/// All fields as a JSON object, its quotes doubled.
fn json(
    line: &mut Vec<u8>,
    cell: &mut Vec<u8>,
    out: &mut impl Write,
    class: &EventClass,
    payload: &[u8],
) -> io::Result<()> {
    let mut quoted = Quoted { line, out };
    let mut rest = payload;
    cell.clear();
    cell.push(b'{');
    for (n, field) in class.fields.iter().enumerate() {
        if n > 0 {
            cell.push(b',');
        }
        if let (FieldType::Sequence(_), Some(length)) = (&field.ty, rest.first_chunk()) {
            json_text(cell, format!("_{}_length", field.name).as_bytes());
            cell.push(b':');
            number(cell, u32::from_le_bytes(*length).into());
            cell.push(b',');
        }
        json_text(cell, field.name.as_bytes());
        cell.push(b':');
        let Some((v, next)) = value(&field.ty, rest) else { break };
        rest = next;
        put(cell, &mut quoted, true, &v)?;
        flush_if_full(cell, &mut quoted)?;
    }
    cell.push(b'}');
    quoted.write_all(cell)?;
    cell.clear();
    Ok(())
}

/// Text as a cell: in quotes where it has to be.
fn text_cell(line: &mut Vec<u8>, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let plain = !text.contains(['"', ',', '\n', '\r'])
        && !text.starts_with(char::is_whitespace)
        && !text.ends_with(char::is_whitespace);
    if plain {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(b'"');
    line.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    line.push(b'"');
}

/// The inside of a cell in quotes, as long as it may be: quotes are doubled.
struct Quoted<'a, W: Write> {
    line: &'a mut Vec<u8>,
    out: &'a mut W,
}

impl<W: Write> Write for Quoted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|b| *b == b'"') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\"") {
                self.line.push(b'"');
            }
        }
        flush_if_full(self.line, self.out)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
