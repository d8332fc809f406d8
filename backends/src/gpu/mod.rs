//! The ring in video memory, and the picture that it makes.

pub mod compute;
