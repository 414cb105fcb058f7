//! The operating system, from `os-release`: `node_os_info` and `node_os_version`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

/// Key in the file and label, sorted by label.
const FIELDS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let values = match read_fields(reader, "etc/os-release") {
        Err(CollectError::Missing) => read_fields(reader, "usr/lib/os-release")?,
        other => other?,
    };
    let name = "node_os_info";
    writer.family(name, Kind::Gauge, "Always 1; what os-release says stands in the labels.");
    let labels: [(&str, &str); FIELDS.len()] = core::array::from_fn(|index| (FIELDS[index].1, &*values[index]));
    writer.sample(name, &labels, 1);

    if let Some(version) = major_minor(&values[VERSION_ID]) {
        let name = "node_os_version";
        writer.family(name, Kind::Gauge, "Major and minor version of the operating system, as a number.");
        let labels = [("id", &*values[ID]), ("id_like", &values[ID_LIKE]), ("name", &values[NAME])];
        writer.sample(name, &labels, version);
    }
    Ok(())
}

fn read_fields(reader: &mut Reader, path: &str) -> Result<[String; FIELDS.len()], CollectError> {
    let text = reader.rootfs(path)?;
    let mut values = [const { String::new() }; FIELDS.len()];
    for (_, line) in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        if let Some(index) = FIELDS.iter().position(|(field, _)| *field == key) {
            values[index] = unquoted(value);
        }
    }
    Ok(values)
}

/// Takes a shell's quotes off (os-release(5)): within double quotes a backslash protects the next character.
fn unquoted(value: &str) -> String {
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut characters = inner.chars();
    let mut out = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    out
}

/// `22.04.3` gives 22.04; what does not start with a number gives none.
fn major_minor(version: &str) -> Option<f64> {
    let mut parts = version.splitn(3, '.');
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let major = parts.next().filter(is_number)?;
    match parts.next().filter(is_number) {
        Some(minor) => format!("{major}.{minor}").parse().ok(),
        None => major.parse().ok(),
    }
}
