pub mod host;
pub mod ui;
