//! Event classes: what a record's fields are called and how their bytes lie.
//!
//! A channel has one [`ClassRegistry`]. It only grows: ids are given at first use, in
//! order, and never change, so a reader that knows the first *n* classes can decode every
//! record whose id is among them. This file knows types and sizes; the bytes of a record's
//! header are in `packet.rs`, the text that describes classes to other tools in
//! `metadata.rs`, and reading them back in `decode.rs`.
//!
//! All fields are packed: alignment one byte, little-endian. (Unaligned loads and stores
//! cost nothing measurable on today's CPUs, and every size of payload stays possible,
//! which a given-up reservation needs; see [`crate::packet`].)

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

/// How a number is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Base {
    /// 42
    #[default]
    Decimal,
    /// 0x2a
    Hexadecimal,
    /// 052
    Octal,
    /// 0b101010
    Binary,
}

/// An integer of 8, 16, 32 or 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// Two's complement.
    pub signed: bool,
    /// How it is shown.
    pub base: Base,
    /// An 8-bit element of text: arrays and sequences of it are shown as a string
    /// that ends at the first NUL (the kernel's `char comm[16]`).
    pub text: bool,
}

impl Integer {
    /// Unsigned, decimal, of `bits` bits.
    #[must_use]
    pub const fn unsigned(bits: u8) -> Self {
        Self { bits, signed: false, base: Base::Decimal, text: false }
    }
    /// Signed, decimal, of `bits` bits.
    #[must_use]
    pub const fn signed(bits: u8) -> Self {
        Self { bits, signed: true, base: Base::Decimal, text: false }
    }
    /// The same, shown in another base.
    #[must_use]
    pub const fn base(self, base: Base) -> Self {
        Self { base, ..self }
    }
    /// A character of text.
    pub const CHAR: Self = Self { bits: 8, signed: false, base: Base::Decimal, text: true };

    /// Bytes that it takes.
    #[must_use]
    pub const fn size(self) -> usize {
        self.bits as usize / 8
    }
}

/// One label of an enumeration: the values from `first` to `last`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What is shown.
    pub name: String,
    /// Smallest value that it names.
    pub first: i128,
    /// Largest value that it names.
    pub last: i128,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// An integer.
    Integer(Integer),
    /// An integer whose values have names.
    Enumeration(Integer, Vec<Label>),
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// UTF-8 that ends with a NUL byte.
    String,
    /// A fixed number of elements, each of a scalar type (integer, enumeration, float).
    Array(Box<FieldType>, u32),
    /// A `u32` count, then that many elements of a scalar type. In metadata the count is
    /// a field of its own, `__NAME_length` (LTTng's habit).
    Sequence(Box<FieldType>),
}

impl FieldType {
    /// `u8`, `u16`, `u32`, `u64`: unsigned decimal integers.
    pub const U8: Self = Self::Integer(Integer::unsigned(8));
    /// See [`FieldType::U8`].
    pub const U16: Self = Self::Integer(Integer::unsigned(16));
    /// See [`FieldType::U8`].
    pub const U32: Self = Self::Integer(Integer::unsigned(32));
    /// See [`FieldType::U8`].
    pub const U64: Self = Self::Integer(Integer::unsigned(64));
    /// `i32`: a signed decimal integer.
    pub const I32: Self = Self::Integer(Integer::signed(32));
    /// `i64`: a signed decimal integer.
    pub const I64: Self = Self::Integer(Integer::signed(64));

    /// Bytes of one value where that is the same for all values.
    #[must_use]
    pub fn fixed_size(&self) -> Option<usize> {
        match self {
            Self::Integer(i) | Self::Enumeration(i, _) => Some(i.size()),
            Self::Float32 => Some(4),
            Self::Float64 => Some(8),
            Self::Array(element, n) => element.fixed_size()?.checked_mul(*n as usize),
            Self::String | Self::Sequence(_) => None,
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::Enumeration(..) | Self::Float32 | Self::Float64)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Integer(i) => check_integer(*i),
            Self::Enumeration(i, labels) => {
                check_integer(*i)?;
                if labels.is_empty() {
                    return Err("an enumeration needs at least one label".into());
                }
                let (low, high) = if i.signed {
                    (-(1i128 << (i.bits - 1)), (1i128 << (i.bits - 1)) - 1)
                } else {
                    (0, (1i128 << i.bits) - 1)
                };
                for l in labels {
                    if l.first > l.last || l.first < low || l.last > high {
                        return Err(format!("label {:?} does not fit its integer", l.name));
                    }
                    if l.name.chars().any(char::is_control) {
                        return Err(format!("label {:?} has a control character", l.name));
                    }
                }
                Ok(())
            }
            Self::Float32 | Self::Float64 | Self::String => Ok(()),
            Self::Array(e, _) | Self::Sequence(e) if !e.is_scalar() => {
                Err("elements must be integers, enumerations or floats".into())
            }
            Self::Array(e, _) | Self::Sequence(e) => e.check(),
        }
    }
}

fn check_integer(i: Integer) -> Result<(), String> {
    if !matches!(i.bits, 8 | 16 | 32 | 64) {
        return Err(format!("integers have 8, 16, 32 or 64 bits, not {}", i.bits));
    }
    if i.text && i.bits != 8 {
        return Err("text has elements of 8 bits".into());
    }
    Ok(())
}

/// A field: a name (a C identifier) and a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Letters, digits and `_`, not beginning with a digit. Keywords of TSDL are fine.
    pub name: String,
    /// Its type.
    pub ty: FieldType,
}

impl Field {
    /// A field of that name and type.
    pub fn new(name: impl Into<String>, ty: FieldType) -> Self {
        Self { name: name.into(), ty }
    }
}

/// LTTng's log levels; the numbers are those that a trace carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are syslog's and LTTng's and say all there is")]
pub enum LogLevel {
    Emergency = 0,
    Alert = 1,
    Critical = 2,
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    DebugSystem = 7,
    DebugProgram = 8,
    DebugProcess = 9,
    DebugModule = 10,
    DebugUnit = 11,
    DebugFunction = 12,
    DebugLine = 13,
    Debug = 14,
}

impl LogLevel {
    /// The level with that number.
    #[must_use]
    pub fn from_number(n: u64) -> Option<Self> {
        use LogLevel::{
            Alert, Critical, Debug, DebugFunction, DebugLine, DebugModule, DebugProcess,
            DebugProgram, DebugSystem, DebugUnit, Emergency, Error, Info, Notice, Warning,
        };
        [
            Emergency,
            Alert,
            Critical,
            Error,
            Warning,
            Notice,
            Info,
            DebugSystem,
            DebugProgram,
            DebugProcess,
            DebugModule,
            DebugUnit,
            DebugFunction,
            DebugLine,
            Debug,
        ]
        .into_iter()
        .find(|l| *l as u64 == n)
    }
}

/// What every record of one kind looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventClass {
    /// `PROVIDER:EVENT` by habit; any text without control characters.
    pub name: String,
    /// Payload fields, in the order of their bytes.
    pub fields: Vec<Field>,
    /// Its log level, if it has one.
    pub level: Option<LogLevel>,
}

impl EventClass {
    /// A class of that name with these fields and no log level.
    pub fn new(name: impl Into<String>, fields: Vec<Field>) -> Self {
        Self { name: name.into(), fields, level: None }
    }
    /// The same with a log level.
    #[must_use]
    pub fn level(mut self, level: LogLevel) -> Self {
        self.level = Some(level);
        self
    }
    /// Payload bytes where that is the same for every record.
    #[must_use]
    pub fn fixed_size(&self) -> Option<usize> {
        self.fields.iter().try_fold(0, |sum, f| Some(sum + f.ty.fixed_size()?))
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return Err("its name is empty or has a control character".into());
        }
        let mut seen: Vec<&str> = Vec::new();
        for f in &self.fields {
            let mut chars = f.name.chars();
            let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("field name {:?} is not a C identifier", f.name));
            }
            if seen.contains(&f.name.as_str()) {
                return Err(format!("it has two fields called {:?}", f.name));
            }
            seen.push(&f.name);
            f.ty.check().map_err(|e| format!("field {:?}: {e}", f.name))?;
        }
        // The length of sequence `x` is the field `_x_length` on disk, less one `_`.
        for f in &self.fields {
            if matches!(f.ty, FieldType::Sequence(_))
                && seen.contains(&format!("_{}_length", f.name).as_str())
            {
                return Err(format!("field {:?} collides with the length of a sequence", f.name));
            }
        }
        Ok(())
    }
}

/// An event class that a registry refuses.
#[derive(Debug, thiserror::Error)]
#[error("event class {name:?}: {reason}")]
pub struct ClassError {
    name: String,
    reason: String,
}

/// The id of an event class in one channel, as it stands in record headers.
///
/// Ids 0 to 27 fit a compact header; 28, 29 and 30 are `rbpipe:aborted` in its three
/// sizes; the 29th class of a channel is 31 and needs an extended header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub(crate) u32);

impl ClassId {
    /// The first of the three ids of `rbpipe:aborted`.
    pub const FIRST_ABORTED: u32 = 28;
    /// The last of the three ids of `rbpipe:aborted`.
    pub const LAST_ABORTED: u32 = 30;
    const ABORTED: u32 = Self::LAST_ABORTED - Self::FIRST_ABORTED + 1;

    /// The number in record headers.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
    /// The id of the class at this place in the registry's order.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(if index < Self::FIRST_ABORTED { index } else { index + Self::ABORTED })
    }
    /// The place in the registry's order; `None` for `rbpipe:aborted`.
    #[must_use]
    pub const fn index(number: u32) -> Option<usize> {
        match number {
            0..Self::FIRST_ABORTED => Some(number as usize),
            Self::FIRST_ABORTED..=Self::LAST_ABORTED => None,
            _ => Some((number - Self::ABORTED) as usize),
        }
    }
}

/// The event classes of one channel: grows while the trace runs, never changes.
#[derive(Default)]
pub struct ClassRegistry {
    inner: RwLock<Inner>,
    count: AtomicU32,
}

#[derive(Default)]
struct Inner {
    classes: Vec<Arc<EventClass>>,
    by_name: HashMap<String, Vec<u32>>,
}

impl ClassRegistry {
    /// A registry without classes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of this class: a new one at first use, the same one after that.
    /// Two classes of one name with other fields are two classes, as in LTTng.
    ///
    /// # Errors
    /// A name that is empty or a field that cannot be described in a trace.
    ///
    /// ```
    /// use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType};
    /// let classes = ClassRegistry::new();
    /// let class = EventClass::new("app:tick", vec![Field::new("n", FieldType::U64)]);
    /// let id = classes.register(class.clone()).unwrap();
    /// assert_eq!(id, classes.register(class).unwrap());
    /// assert_eq!(id.number(), 0);
    /// ```
    pub fn register(&self, class: EventClass) -> Result<ClassId, ClassError> {
        class.check().map_err(|reason| ClassError { name: class.name.clone(), reason })?;
        let mut inner = self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = inner.by_name.get(&class.name).and_then(|places| {
            places.iter().copied().find(|i| *inner.classes[*i as usize] == class)
        });
        if let Some(index) = known {
            return Ok(ClassId::from_index(index));
        }
        let index = u32::try_from(inner.classes.len()).expect("fewer than 2^32 event classes");
        inner.by_name.entry(class.name.clone()).or_default().push(index);
        inner.classes.push(Arc::new(class));
        // Release: with the Acquire in `len`; who sees the count finds the class.
        self.count.store(index + 1, Ordering::Release);
        Ok(ClassId::from_index(index))
    }

    /// How many classes there are by now; only grows. Cheap: an output compares it with
    /// what it last wrote before each packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }
    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All classes so far, in the order of their ids.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<EventClass>> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner).classes.clone()
    }
}

impl fmt::Debug for ClassRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassRegistry").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_leave_out_the_reserved_ones() {
        let classes = ClassRegistry::new();
        let ids: Vec<u32> = (0..40)
            .map(|i| classes.register(EventClass::new(format!("c{i}"), vec![])).unwrap().number())
            .collect();
        assert_eq!(ids[27], 27);
        assert_eq!(ids[28], 31, "the 29th class is 31");
        for (place, id) in ids.iter().enumerate() {
            assert_eq!(ClassId::index(*id), Some(place));
        }
        assert!((28..=30).all(|id| ClassId::index(id).is_none()));
    }

    #[test]
    fn same_name_other_fields_is_another_class() {
        let classes = ClassRegistry::new();
        let a = classes.register(EventClass::new("e", vec![])).unwrap();
        let b =
            classes.register(EventClass::new("e", vec![Field::new("x", FieldType::U8)])).unwrap();
        assert_ne!(a, b);
        assert_eq!(classes.len(), 2);
    }

    #[test]
    fn refuses_what_metadata_cannot_say() {
        let classes = ClassRegistry::new();
        for (name, ty) in [
            ("1x", FieldType::U8),
            ("a-b", FieldType::U8),
            ("", FieldType::U8),
            ("x", FieldType::Integer(Integer::unsigned(7))),
            ("x", FieldType::Enumeration(Integer::unsigned(8), vec![])),
            ("x", FieldType::Array(Box::new(FieldType::String), 2)),
        ] {
            let class = EventClass::new("e", vec![Field::new(name, ty)]);
            assert!(classes.register(class).is_err(), "{name:?}");
        }
        assert!(classes.register(EventClass::new("two\nlines", vec![])).is_err());
        assert!(classes.is_empty());
    }
}
