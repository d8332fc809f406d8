//! What is said over the control socket: one JSON object a line, a request and its reply.
//!
//! Requests are a user's own, but may be anybody's bytes: their length is bounded, and what
//! is not understood is answered once, and the end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of the protocol. Another one is refused by name.
pub const VERSION: u32 = 1;
/// Bytes of a request's line, at most.
pub const LONGEST: usize = 64 << 10;

/// What a running pipeline is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// How it stands.
    Status,
    /// All that was recorded before goes to where it belongs.
    Flush,
    /// Outputs with pieces begin a new one.
    Rotate,
    /// What its flight recorders hold is copied into a trace.
    Snapshot {
        /// The trace's directory: an absolute path.
        out: String,
        /// By splice, and not otherwise.
        splice: bool,
    },
    /// It ends, as with SIGTERM; the reply comes when it has.
    Stop,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// See [`VERSION`].
    pub version: u32,
    /// For what.
    pub command: Command,
}

/// A reply: an error, or what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// See [`VERSION`].
    pub version: u32,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// status: the report's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// status: what the report does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// rotate: where the pieces are that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<String>,
    /// snapshot: what was copied, in words and for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Copied>,
    /// stop: the pipeline's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// For people.
    pub words: String,
    /// For programs.
    pub json: Value,
}

/// How a pipeline stands, beside its books.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Its process.
    pub pid: u32,
    /// In the order of their names.
    pub channels: Vec<LiveChannel>,
    /// Sources that have not ended.
    pub running: Vec<String>,
}

/// A channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveChannel {
    /// Its name.
    pub name: String,
    /// How full its fullest stream is, of 1.
    pub fill: f64,
    /// Events in sub-buffers that are not delivered yet.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Request {
    /// Reads a request's line.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let this: Self =
            serde_json::from_slice(line).map_err(|e| format!("this is no request: {e}"))?;
        match this.version {
            VERSION => Ok(this),
            other => Err(format!("this pipeline speaks version {VERSION}, not {other}")),
        }
    }
}

impl Reply {
    /// Nothing more to say.
    pub fn done() -> Self {
        Self { version: VERSION, ..Self::default() }
    }
    /// It was not, and why.
    pub fn error(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::done() }
    }
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // What is said has no maps with keys that are no strings.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused_in_words() {
        let good = Request { version: VERSION, command: Command::Flush };
        assert_eq!(Request::read(&line(&good)), Ok(good));
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            "\0",
            "{\"version\":1,\"command\":\"explode\"}",
            "{\"version\":1,\"command\":\"stop\",\"x\":1}",
            "{\"version\":2,\"command\":\"stop\"}",
            "{\"version\":1,\"command\":\"snapshot\"}",
            "{\"version\":1,\"command\":{\"snapshot\":{\"out\":\"/x\"}}}",
        ] {
            assert!(Request::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
