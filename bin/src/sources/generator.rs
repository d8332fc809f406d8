//! `generator`: records whose integrity and order any reader of the trace can prove.
//!
//! `rbpipe:generated`: `writer`, `seq` (from 0 for each writer, no gap at the source: a lost
//! record uses up its seq), `check` (CRC-32C of writer, seq and payload), `payload` (byte i is
//! the low byte of splitmix64(seed ^ writer << 48 ^ seq) + i).

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::class::{Base, EventClass, Field, FieldType, Integer};
use rbpipe_core::stream::WriteError;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::{Channels, Class, Source, Stop};

/// Keys of `type = "generator"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Events per second over all writers, or "max".
    pub rate: Rate,
    /// Events in all, over all writers; 0: endless.
    pub events: u64,
    /// Threads.
    pub writers: u32,
    /// Bytes of `payload`.
    pub payload: u32,
    /// Makes the payload another one.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { rate: Rate(Some(1000.0)), events: 0, writers: 1, payload: 16, seed: 0 }
    }
}

/// Events per second; `None`: as fast as it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub Option<f64>);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Rate;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("events per second, or \"max\"")
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Rate, E> {
                // Slower is a timer's work, faster nobody's: and no sum below overflows.
                if (0.001..=1e9).contains(&v) {
                    Ok(Rate(Some(v)))
                } else {
                    Err(E::custom(format!("a rate is 0.001 to 1000000000 a second, not {v:?}")))
                }
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Rate, E> {
                self.visit_f64(v as f64)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Rate, E> {
                self.visit_f64(v as f64)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Rate, E> {
                match v {
                    "max" => Ok(Rate(None)),
                    _ => Err(E::custom(format!("a rate is a number or \"max\", not {v:?}"))),
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The source.
pub struct Generator;

impl Source for Generator {
    const TYPE: &'static str = "generator";
    const ABOUT: &'static str = "numbered records with checksums, paced or as fast as it goes";
    const SAMPLE: &'static str = "\
# Numbered records with checksums (`rbpipe:generated`): proves integrity, order and losses.
type = \"generator\"
rate = 1000             # events per second over all writers, or \"max\"
events = 0              # in all, over all writers; 0 = endless
writers = 1             # threads
payload = 16            # bytes
seed = 0
";
    type Config = Config;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if !(1..=1024).contains(&config.writers) {
            let message = format!("1 to 1024 writers, not {}", config.writers);
            problems.push(ConfigProblem { key: "writers", message });
        }
        if config.payload > 64 << 20 {
            let message = "no sub-buffer holds more than 64 MiB".into();
            problems.push(ConfigProblem { key: "payload", message });
        }
        problems
    }

    type Opened = Config;

    fn open(config: Config) -> anyhow::Result<Config> {
        Ok(config)
    }
    fn run(config: Config, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let class = to.class(&EventClass::new(
            "rbpipe:generated",
            vec![
                Field::new("writer", FieldType::U32),
                Field::new("seq", FieldType::U64),
                Field::new(
                    "check",
                    FieldType::Integer(Integer::unsigned(64).base(Base::Hexadecimal)),
                ),
                Field::new("payload", FieldType::Sequence(Box::new(FieldType::U8))),
            ],
        ))?;
        thread::scope(|scope| {
            for writer in 0..config.writers {
                let (config, class) = (&config, &class);
                thread::Builder::new()
                    .name(format!("generate-{writer}"))
                    .spawn_scoped(scope, move || write(config, writer, to, class, stop))?;
            }
            Ok(())
        })
    }
}

/// How many records are written between two looks at the clock and at `stop`.
const TURN: u64 = 256;

fn write(config: &Config, writer: u32, to: &Channels, class: &Class, stop: &Stop) {
    let share = share(config.events, config.writers, writer);
    let per_second = config.rate.0.map(|r| r / f64::from(config.writers));
    let bytes = Bytes::new(config.payload as usize);
    let begin = Instant::now();
    let mut seq = 0;
    while (config.events == 0 || seq < share) && !stop.is_stopped() {
        let mut turn = if config.events == 0 { TURN } else { TURN.min(share - seq) };
        if let Some(rate) = per_second {
            let due = (begin.elapsed().as_secs_f64() * rate) as u64 + 1;
            if due <= seq {
                let next = begin + Duration::from_secs_f64(seq as f64 / rate);
                // At high rates a sleep for each record would be too slow; a millisecond's
                // worth comes at once.
                if stop.wait_until(next.max(Instant::now() + Duration::from_micros(200))) {
                    break;
                }
                continue;
            }
            turn = turn.min(due - seq);
        }
        let mut offered = 0;
        while offered < turn && record(config.seed, writer, seq, &bytes, to, class) {
            offered += 1;
            seq += 1;
        }
        to.counts.read.fetch_add(offered, Ordering::Relaxed);
        if offered < turn {
            return; // the channels are closed
        }
    }
}

/// A writer's part of the events.
fn share(events: u64, writers: u32, writer: u32) -> u64 {
    let (each, rest) = (events / u64::from(writers), events % u64::from(writers));
    each + u64::from(u64::from(writer) < rest)
}

fn record(seed: u64, writer: u32, seq: u64, bytes: &Bytes, to: &Channels, class: &Class) -> bool {
    let payload = bytes.of(seed, writer, seq);
    let mut head = [0; 24];
    head[0..4].copy_from_slice(&writer.to_le_bytes());
    head[4..12].copy_from_slice(&seq.to_le_bytes());
    head[12..20].copy_from_slice(&u64::from(check(writer, seq, payload)).to_le_bytes());
    head[20..24].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut open = false;
    for (place, w) in to.writers.iter().enumerate() {
        match w.reserve(class.id(place), head.len() + payload.len()) {
            Ok(mut r) => {
                r.write(&head);
                r.write(payload);
                r.commit();
                open = true;
            }
            Err(WriteError::Closed) => {}
            // Lost, and counted by the channel; its seq is used up.
            Err(WriteError::Lost(_)) => open = true,
        }
    }
    open
}

/// CRC-32C of writer, seq (both little-endian) and payload.
#[must_use]
pub fn check(writer: u32, seq: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 12];
    head[0..4].copy_from_slice(&writer.to_le_bytes());
    head[4..12].copy_from_slice(&seq.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// All payloads of one length: each is a part of one ascending run of bytes.
struct Bytes {
    run: Vec<u8>,
    len: usize,
}

impl Bytes {
    fn new(len: usize) -> Self {
        Self { run: (0..256 + len).map(|i| i as u8).collect(), len }
    }
    fn of(&self, seed: u64, writer: u32, seq: u64) -> &[u8] {
        let first = splitmix64(seed ^ u64::from(writer) << 48 ^ seq) as u8 as usize;
        &self.run[first..first + self.len]
    }
}

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(splitmix64(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(check(0, 0, b""), crc32c::crc32c(&[0; 12]));
        // CRC-32C of 32 zero bytes (RFC 3720, B.4).
        assert_eq!(check(0, 0, &[0; 20]), 0x8A91_36AA);
    }

    #[test]
    fn payload_follows_its_formula() {
        let bytes = Bytes::new(300);
        for (seed, writer, seq) in [(0, 0, 0), (7, 3, 99), (u64::MAX, 1023, 1 << 40)] {
            let first = splitmix64(seed ^ u64::from(writer) << 48 ^ seq);
            for (i, byte) in bytes.of(seed, writer, seq).iter().enumerate() {
                assert_eq!(*byte, first.wrapping_add(i as u64) as u8);
            }
        }
    }

    #[test]
    fn shares_add_up() {
        for (events, writers) in [(10, 3), (0, 2), (7, 8), (1_000_001, 4)] {
            assert_eq!((0..writers).map(|w| share(events, writers, w)).sum::<u64>(), events);
        }
    }
}
