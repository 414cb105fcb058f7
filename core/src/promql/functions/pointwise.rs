//! One value out of one value (and scalars).

pub fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

pub fn deg(value: f64) -> f64 {
    value * 180.0 / core::f64::consts::PI
}

pub fn rad(value: f64) -> f64 {
    value * core::f64::consts::PI / 180.0
}

/// To the nearest multiple of the scalar, by default 1; halves go up.
pub fn round(value: f64, scalars: &[f64]) -> Option<f64> {
    // The inverse keeps e.g. 0.1 exact where a division by it would not be.
    let inverse = 1.0 / scalars.first().copied().unwrap_or(1.0);
    Some(libm::floor(value * inverse + 0.5) / inverse)
}

/// Nothing when the bounds cross.
pub fn clamp(value: f64, scalars: &[f64]) -> Option<f64> {
    let (least, most) = (scalars[0], scalars[1]);
    if most < least { None } else { Some(go_max(least, go_min(most, value))) }
}

pub fn clamp_min(value: f64, scalars: &[f64]) -> Option<f64> {
    Some(go_max(scalars[0], value))
}

pub fn clamp_max(value: f64, scalars: &[f64]) -> Option<f64> {
    Some(go_min(scalars[0], value))
}

/// NaN if either is, except that an infinity of the wanted sign wins, as in Go's `math.Max`.
fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}
