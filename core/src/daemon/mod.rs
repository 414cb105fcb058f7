//! The machine that owns the stages.

pub mod input;
pub mod output;
pub mod reader;
pub mod settings;

pub use {input::Input, output::Output, settings::Settings};
