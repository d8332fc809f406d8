//! Metadata: what a trace's packets and records mean, as TSDL text (CTF 1.8).
//!
//! It describes exactly the bytes of `packet.rs` and the payloads of `class.rs`. Field names
//! are written with one `_` before them, as LTTng does: readers take one off, so that a
//! field may be called `event` or `align`. The text is a function of its argument alone.

use std::fmt::Write;
use std::sync::Arc;

use crate::class::{Base, ClassId, EventClass, FieldType, Integer};
use crate::packet::{COMPACT_TIME_BITS, EXTENDED, StreamClass};

/// What a trace is made of.
#[derive(Clone, Debug)]
pub struct TraceDescription {
    /// The same as in every packet header.
    pub uuid: [u8; 16],
    /// The pipeline's name.
    pub name: String,
    /// The machine's name.
    pub hostname: String,
    /// Nanoseconds from CLOCK_MONOTONIC's zero to the epoch.
    pub clock_offset: u64,
    /// Its stream classes.
    pub streams: Vec<StreamDescription>,
}

/// One stream class of a trace.
#[derive(Clone, Debug)]
pub struct StreamDescription {
    /// Its id in the trace.
    pub id: u32,
    /// What its packets say of their origin.
    pub class: StreamClass,
    /// The channel that it is part of.
    pub channel: String,
    /// The channel's event classes, in the order of their ids.
    pub classes: Vec<Arc<EventClass>>,
}

/// Writes the text.
#[must_use]
pub fn write(trace: &TraceDescription) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a String cannot fail.
    let _ = write_trace(&mut out, trace);
    out
}

fn write_trace(out: &mut String, trace: &TraceDescription) -> std::fmt::Result {
    let u = trace.uuid;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let uuid = [&u[0..4], &u[4..6], &u[6..8], &u[8..10], &u[10..16]].map(hex).join("-");
    write!(
        out,
        r#"/* CTF 1.8 */

typealias integer {{ size = 5; align = 1; signed = false; byte_order = le; }} := uint5_t;
typealias integer {{ size = 8; align = 8; signed = false; byte_order = le; }} := uint8_t;
typealias integer {{ size = 32; align = 8; signed = false; byte_order = le; }} := uint32_t;
typealias integer {{ size = 64; align = 8; signed = false; byte_order = le; }} := uint64_t;

trace {{
	major = 1;
	minor = 8;
	uuid = "{uuid}";
	byte_order = le;
	packet.header := struct {{
		uint32_t magic;
		uint8_t uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	}};
}};

env {{
	hostname = {hostname};
	tracer_name = "rbpipe";
	tracer_major = {major};
	tracer_minor = {minor};
	trace_name = {name};
"#,
        hostname = quote(&trace.hostname),
        name = quote(&trace.name),
        major = env!("CARGO_PKG_VERSION_MAJOR"),
        minor = env!("CARGO_PKG_VERSION_MINOR"),
    )?;
    for s in &trace.streams {
        writeln!(out, "\tchannel_{} = {};", s.id, quote(&s.channel))?;
    }
    write!(
        out,
        r#"}};

clock {{
	name = "monotonic";
	description = "CLOCK_MONOTONIC";
	freq = 1000000000;
	offset_s = {seconds};
	offset = {nanoseconds};
}};

typealias integer {{
	size = {COMPACT_TIME_BITS}; align = 1; signed = false; byte_order = le;
	map = clock.monotonic.value;
}} := uint{COMPACT_TIME_BITS}_clock_t;

typealias integer {{
	size = 64; align = 8; signed = false; byte_order = le;
	map = clock.monotonic.value;
}} := uint64_clock_t;

struct event_header {{
	enum : uint5_t {{ compact = 0 ... {last}, extended = {EXTENDED} }} id;
	variant <id> {{
		struct {{
			uint{COMPACT_TIME_BITS}_clock_t timestamp;
		}} compact;
		struct {{
			uint32_t id;
			uint64_clock_t timestamp;
		}} extended;
	}} v;
}} align(8);
"#,
        seconds = trace.clock_offset / 1_000_000_000,
        nanoseconds = trace.clock_offset % 1_000_000_000,
        last = EXTENDED - 1,
    )?;
    for stream in &trace.streams {
        write_stream(out, stream)?;
    }
    Ok(())
}

fn write_stream(out: &mut String, stream: &StreamDescription) -> std::fmt::Result {
    let origin = match stream.class {
        StreamClass::Plain => "",
        StreamClass::Cpu => "\t\tuint32_t cpu_id;\n",
        StreamClass::Thread => {
            "\t\tinteger { size = 32; align = 8; signed = true; byte_order = le; } tid;\n"
        }
    };
    write!(
        out,
        r#"
stream {{
	id = {};
	event.header := struct event_header;
	packet.context := struct {{
		uint64_clock_t timestamp_begin;
		uint64_clock_t timestamp_end;
		uint64_t content_size;
		uint64_t packet_size;
		uint64_t packet_seq_num;
		uint64_t events_discarded;
{origin}	}};
}};
"#,
        stream.id
    )?;
    // A reservation that was given up, in its three sizes: see `packet.rs`.
    let n = |ty: &str| format!("\t\t{ty} _n;\n\t\tuint8_t _bytes[_n];\n");
    for (k, fields) in [String::new(), n("uint8_t"), n("uint32_t")].iter().enumerate() {
        write_event(
            out,
            "rbpipe:aborted",
            ClassId::FIRST_ABORTED + k as u32,
            stream.id,
            None,
            fields,
        )?;
    }
    for (index, class) in stream.classes.iter().enumerate() {
        let id = ClassId::from_index(index as u32).number();
        let mut fields = String::new();
        for f in &class.fields {
            write_field(&mut fields, &f.name, &f.ty)?;
        }
        let level = class.level.map(|l| l as u8);
        write_event(out, &class.name, id, stream.id, level, &fields)?;
    }
    Ok(())
}

fn write_event(
    out: &mut String,
    name: &str,
    id: u32,
    stream: u32,
    level: Option<u8>,
    fields: &str,
) -> std::fmt::Result {
    writeln!(out, "\nevent {{\n\tname = {};\n\tid = {id};\n\tstream_id = {stream};", quote(name))?;
    if let Some(level) = level {
        writeln!(out, "\tloglevel = {level};")?;
    }
    writeln!(out, "\tfields := struct {{\n{fields}\t}};\n}};")
}

fn write_field(out: &mut String, name: &str, ty: &FieldType) -> std::fmt::Result {
    match ty {
        FieldType::Array(element, n) => {
            writeln!(out, "\t\t{} _{name}[{n}];", type_text(element))
        }
        FieldType::Sequence(element) => {
            writeln!(out, "\t\tuint32_t __{name}_length;")?;
            writeln!(out, "\t\t{} _{name}[__{name}_length];", type_text(element))
        }
        other => writeln!(out, "\t\t{} _{name};", type_text(other)),
    }
}

fn type_text(ty: &FieldType) -> String {
    match ty {
        FieldType::Integer(i) => integer_text(*i),
        FieldType::Enumeration(i, labels) => {
            let labels: Vec<String> = labels
                .iter()
                .map(|l| {
                    let name = quote(&l.name);
                    if l.first == l.last {
                        format!("{name} = {}", l.first)
                    } else {
                        format!("{name} = {} ... {}", l.first, l.last)
                    }
                })
                .collect();
            format!("enum : {} {{ {} }}", integer_text(*i), labels.join(", "))
        }
        FieldType::Float32 => float_text(8, 24),
        FieldType::Float64 => float_text(11, 53),
        FieldType::String => "string { encoding = UTF8; }".into(),
        // The registry refuses arrays of arrays.
        FieldType::Array(element, _) | FieldType::Sequence(element) => type_text(element),
    }
}

fn integer_text(i: Integer) -> String {
    let base = match i.base {
        Base::Decimal => 10,
        Base::Hexadecimal => 16,
        Base::Octal => 8,
        Base::Binary => 2,
    };
    let encoding = if i.text { " encoding = UTF8;" } else { "" };
    format!(
        "integer {{ size = {}; align = 8; signed = {}; byte_order = le; base = {base};{encoding} }}",
        i.bits, i.signed
    )
}

fn float_text(exponent: u32, mantissa: u32) -> String {
    format!(
        "floating_point {{ exp_dig = {exponent}; mant_dig = {mantissa}; byte_order = le; align = 8; }}"
    )
}

/// A TSDL string. Control characters (which names cannot have) are left out.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
