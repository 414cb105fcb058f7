//! (see branch history)
