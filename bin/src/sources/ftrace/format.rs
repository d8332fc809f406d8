//! The kernel's description of an event, `events/SYSTEM/EVENT/format`, as text: its id, the
//! fields as they are declared, the print format. What a declaration means is in `fields.rs`.
//!
//! ```text
//! name: sched_switch
//! ID: 372
//! format:
//!         field:unsigned short common_type;       offset:0;       size:2; signed:0;
//!         …
//! print fmt: "prev_comm=%s …", REC->prev_comm, …
//! ```
//!
//! A line that is not understood is an error, not left out: the fields behind it would be
//! told wrong.

/// Why a format is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is no line `ID: NUMBER`.
    #[error("it has no line `ID: NUMBER` with a number below 65536")]
    Id,
    /// No fields.
    #[error("it has no fields")]
    NoFields,
    /// A line that is no field.
    #[error("line {0} is no field: `field:TYPE NAME; offset:N; size:N; signed:N;` is expected")]
    Field(usize),
    /// A field that cannot be.
    #[error("line {line}: the field `{name}` {problem}")]
    #[allow(missing_docs, reason = "named by the message")]
    Place { line: usize, name: String, problem: &'static str },
    /// A class that no trace can describe.
    #[error("{0}")]
    Class(String),
}

/// An event's format, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format<'a> {
    /// What records of it begin with.
    pub id: u16,
    /// In the kernel's order.
    pub fields: Vec<Declared<'a>>,
    /// All behind `print fmt: `.
    pub print: &'a str,
}

/// A field, as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared<'a> {
    /// The line that declares it, from 1.
    pub line: usize,
    /// Its type, without an array's brackets.
    pub ty: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What stands in an array's brackets.
    pub array: Option<&'a str>,
    /// First byte.
    pub offset: usize,
    /// Bytes; 0: to the event's end.
    pub size: usize,
    /// Whether its numbers are signed.
    pub signed: bool,
}

/// No event is longer: places in one have 16 bits.
pub const LONGEST: usize = 1 << 16;

impl<'a> Format<'a> {
    /// Of this text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, FormatError> {
        let (mut id, mut fields, mut print) = (None, Vec::new(), "");
        let mut begin = 0;
        for (n, line) in text.split_inclusive('\n').enumerate() {
            let end = begin + line.len();
            let trimmed = line.trim();
            if let Some(number) = trimmed.strip_prefix("ID:") {
                id = number.trim().parse().ok();
            } else if trimmed.starts_with("field") {
                fields.push(field(trimmed, n + 1).ok_or(FormatError::Field(n + 1))?);
            } else if trimmed.starts_with("print fmt:") {
                // It is the last one, and may have lines.
                print = text[begin..].trim_start()["print fmt:".len()..].trim();
                break;
            }
            begin = end;
        }
        let id = id.ok_or(FormatError::Id)?;
        if fields.is_empty() {
            return Err(FormatError::NoFields);
        }
        check(&fields)?;
        Ok(Self { id, fields, print })
    }
}

/// Fields have places of their own, in an event of a length that can be.
fn check(fields: &[Declared<'_>]) -> Result<(), FormatError> {
    let wrong = |f: &Declared<'_>, problem| {
        let name = f.name.chars().filter(|c| !c.is_control()).take(64).collect();
        Err(FormatError::Place { line: f.line, name, problem })
    };
    let mut sorted: Vec<&Declared<'_>> = fields.iter().collect();
    sorted.sort_by_key(|f| f.offset);
    let mut end = 0;
    for field in sorted {
        if field.offset < end {
            return wrong(field, "lies in another field");
        }
        if field.size > LONGEST || field.offset > LONGEST - field.size {
            return wrong(field, "lies beyond the longest event");
        }
        end = field.offset + field.size;
    }
    let mut open = fields.iter().filter(|f| f.is_open());
    if let (Some(_), Some(second)) = (open.next(), open.next()) {
        return wrong(second, "is the second one without an end");
    }
    Ok(())
}

impl Declared<'_> {
    /// Whether it goes to the event's end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.size == 0 && self.array.is_some()
    }
}

/// `field:TYPE NAME[ARRAY];  offset:N;  size:N;  signed:N;`
fn field(line: &str, number: usize) -> Option<Declared<'_>> {
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?.trim();
    let offset = parts.next()?.strip_prefix("offset:")?.trim().parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.trim().parse().ok()?;
    // Kernels before 2.6.33 do not say it.
    let signed = match parts.next()? {
        "" => false,
        signed => signed.strip_prefix("signed:")?.trim().parse::<u8>().ok()? != 0,
    };
    let (ty, name, array) = declaration_parts(declaration)?;
    Some(Declared { line: number, ty, name, array, offset, size, signed })
}

/// `char comm[16]` and `__data_loc char[] name`: type, name, and what is in the brackets.
fn declaration_parts(declaration: &str) -> Option<(&str, &str, Option<&str>)> {
    let brackets = |text: &'_ str| -> Option<(usize, usize)> {
        let open = text.find('[')?;
        let close = open + text[open..].find(']')?;
        Some((open, close))
    };
    let found = brackets(declaration);
    let array = found.map(|(open, close)| declaration[open + 1..close].trim());
    match found {
        // Behind the name: the type ends before it.
        Some((open, close))
            if matches!(declaration[close + 1..].trim().as_bytes(), [] | [b'[', ..]) =>
        {
            let (ty, name) = last_word(&declaration[..open])?;
            Some((ty, name, array))
        }
        // Behind the type.
        Some((open, close)) => {
            let (_, name) = last_word(&declaration[close + 1..])?;
            Some((declaration[..open].trim(), name, array))
        }
        None => {
            let (ty, name) = last_word(declaration)?;
            Some((ty, name, None))
        }
    }
}

fn last_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let before = text.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let name = &text[before.len()..];
    (!name.is_empty()).then(|| (before.trim(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &str) -> Result<Vec<(String, String, Option<String>)>, FormatError> {
        let text = format!("name: x\nID: 3\nformat:\n{lines}\nprint fmt: \"a\nID: 9\"\n");
        let format = Format::parse(&text)?;
        assert_eq!((format.id, format.print), (3, "\"a\nID: 9\""));
        let owned = |f: &Declared<'_>| (f.ty.into(), f.name.into(), f.array.map(Into::into));
        Ok(format.fields.iter().map(owned).collect())
    }

    #[test]
    fn declarations() {
        for (declaration, ty, name, array) in [
            ("unsigned short common_type", "unsigned short", "common_type", None),
            ("char comm[16]", "char", "comm", Some("16")),
            ("char comm[TASK_COMM_LEN]", "char", "comm", Some("TASK_COMM_LEN")),
            ("__data_loc char[] name", "__data_loc char", "name", Some("")),
            ("__rel_loc char name[]", "__rel_loc char", "name", Some("")),
            ("const char * filename", "const char *", "filename", None),
            ("const char *filename", "const char *", "filename", None),
            ("char buf[]", "char", "buf", Some("")),
            ("u8 a[2][4]", "u8", "a", Some("2")),
            ("struct mm_struct * mm", "struct mm_struct *", "mm", None),
        ] {
            let line = format!("\tfield:{declaration};\toffset:0;\tsize:4;\tsigned:0;");
            let expected = (ty.into(), name.into(), array.map(Into::into));
            assert_eq!(fields(&line), Ok(vec![expected]), "{declaration}");
        }
    }

    #[test]
    fn what_is_refused() {
        let line = |offset: &str, size: &str| {
            format!("\tfield:u8 a[];\toffset:{offset};\tsize:{size};\tsigned:0;\n")
        };
        assert!(matches!(fields("\tfield:int a;\toffset:x;"), Err(FormatError::Field(4))));
        assert!(matches!(
            fields("\tfield:;\toffset:0;\tsize:4;\tsigned:0;"),
            Err(FormatError::Field(4))
        ));
        let odd = "\tfield:int c\u{fffd};\toffset:0;\tsize:4;\tsigned:0;";
        assert!(matches!(fields(odd), Err(FormatError::Field(4))));
        assert!(matches!(fields(""), Err(FormatError::NoFields)));
        assert!(matches!(Format::parse("ID: 70000"), Err(FormatError::Id)));
        for (two, expected) in [
            ([line("0", "4"), line("2", "4")], "line 5: the field `a` lies in another field"),
            (
                [line("0", "4"), line("65533", "4")],
                "line 5: the field `a` lies beyond the longest event",
            ),
            (
                [line("0", "4"), line("18446744073709551615", "4")],
                "line 5: the field `a` lies beyond the longest event",
            ),
            (
                [line("4", "0"), line("8", "0")],
                "line 5: the field `a` is the second one without an end",
            ),
        ] {
            assert_eq!(fields(&two.concat()).unwrap_err().to_string(), expected);
        }
    }
}
