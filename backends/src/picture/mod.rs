//! A picture of a time: lanes of what ran, how much happened, how large something was, with an
//! axis, a legend, and what is missing.
//!
//! It knows no trace and no GPU: whoever counted gives it a value for each column, and [`plan`]
//! says before that how many columns there are. Nor does it know where it is shown: [`draw`]
//! makes an [`Image`], which is written as a PNG or put into a window; [`strip`] draws one lane
//! alone, for terminals.

mod axis;
mod colour;
mod draw;
mod frame;
mod image;
mod lane;
mod text;
pub mod who;

#[cfg(test)]
mod tests;

pub use axis::{moment, number, span};
pub use colour::{Ink, Rgb, Theme};
pub use draw::draw;
pub use frame::{LARGEST, Plan, SMALLEST, SizeError, plan};
pub use image::{Effort, Image};
pub use lane::strip;

use std::sync::Arc;

/// What is to be drawn.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What it shows: stands at the top.
    pub title: String,
    /// Facts in one line below it; those at the end are left out where there is no room.
    pub facts: Vec<String>,
    /// Its first moment, nanoseconds since the epoch.
    pub from: u64,
    /// The moment after its last one.
    pub to: u64,
    /// What its lanes are sorted into.
    pub groups: Vec<Group>,
    /// From the top to the bottom; those of one group follow each other.
    pub lanes: Vec<Lane>,
    /// From lane to lane.
    pub arrows: Vec<Arrow>,
    /// What is missing.
    pub lost: Vec<Gap>,
    /// What colours mean.
    pub legend: Vec<Key>,
}

/// A group of lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its heading.
    pub name: String,
    /// Said beside it: `the busiest 12; 212 more are not shown`.
    pub note: String,
}

/// A lane.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Stands on its left. Shortened only where a third of the picture is too little for it.
    pub name: String,
    /// Stands between name and lane, dim; left out where there is no room.
    pub detail: String,
    /// The place of its group.
    pub group: usize,
    /// Its height, in percent of a line of text, where there is neither too much room nor too
    /// little.
    pub height: u32,
    /// What is in it.
    pub content: Content,
}

/// What a lane shows: a value for each column of [`Plan::columns`].
#[derive(Clone, Debug)]
pub enum Content {
    /// How many events.
    Density(Vec<u32>, Ink),
    /// What state something was in, and what the states are.
    States(Vec<Cell>, Arc<[State]>),
    /// How large something was; `None`: not known.
    Values(Vec<Option<Range>>, Ink),
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Stands in its box where it fits whole.
    pub name: String,
    /// Its colour.
    pub ink: Ink,
}

/// The states of one column, by how much of it each had. The parts of all are at most
/// [`Cell::WHOLE`]; what is missing is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Up to so many, those that are drawn lowest first; the others have no part.
    pub shares: [Share; 4],
}

/// A state's part of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The place of the state.
    pub state: u16,
    /// Of [`Cell::WHOLE`].
    pub part: u16,
}

impl Cell {
    /// The part that is a whole column.
    pub const WHOLE: u16 = u16::MAX;

    /// One state for all of the column.
    #[must_use]
    pub fn all(state: u16) -> Self {
        let mut cell = Self::default();
        cell.shares[0] = Share { state, part: Self::WHOLE };
        cell
    }

    /// The state that it is, but for a trifle.
    #[must_use]
    pub fn pure(&self) -> Option<u16> {
        let found = self.shares.iter().find(|s| s.part >= Self::WHOLE / 50 * 49);
        found.map(|s| s.state)
    }

    fn known(&self) -> impl Iterator<Item = Share> + '_ {
        self.shares.iter().copied().filter(|s| s.part > 0)
    }
}

/// How large something was in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Its least value.
    pub min: f64,
    /// Its mean.
    pub mean: f64,
    /// Its largest value.
    pub max: f64,
}

/// Something in one lane that had to do with another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// When.
    pub time: u64,
    /// The lane that it comes from.
    pub from: usize,
    /// The lane that it goes to.
    pub to: usize,
}

/// A time for which a lane knows nothing, because it was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub lane: usize,
    /// Its first moment.
    pub from: u64,
    /// The moment after its last one.
    pub to: u64,
    /// Stands in it where it fits whole.
    pub text: String,
}

/// What a colour means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The colour.
    pub ink: Ink,
    /// What it means.
    pub name: String,
}
