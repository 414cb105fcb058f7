//! What of the alerts is kept over a restart.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the saved state of alerts is broken; alerts start over")]
    Broken,
    #[error(
        "the saved state of alerts has version {found} and this program knows {known}; update it or delete the state"
    )]
    Version { found: u8, known: u8 },
}
