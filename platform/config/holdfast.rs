//! Reads the file of `--holdfast.config.file`: what only Holdfast has, so that `prometheus.yml` stays a file that promtool
//! accepts.
//!
//! Its keys are the names of Holdfast's own flags, a dot becoming a level and a dash an underscore: `--storage.hot-path` is
//! `storage: {hot_path: ...}`. A flag on the command line wins over the file.

use super::{
    Finding, Refused,
    errors::{Findings, Position},
    file::read_bounded,
    yaml::{Entry, Value, edit_distance, parse},
};
use crate::cli::flags::{FLAGS, Flag, Origin};
use std::path::Path;

/// Longest file read. It has a dozen keys.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// One value of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    pub flag: &'static Flag,
    pub value: String,
    at: Position,
    file: String,
}

impl FlagValue {
    /// This value is wrong, in the words of the flag's own check.
    pub fn finding(&self, message: &str) -> Finding {
        let Position { line, column } = self.at;
        Finding { file: self.file.clone(), line, column, message: message.into() }
    }
}

/// The flags' values in the order of the file. `null` leaves a flag at its default.
pub fn load(path: &Path) -> Result<Vec<FlagValue>, Refused> {
    let findings = Findings::new(&path.display().to_string());
    let mut values = Vec::new();
    if let Some(root) =
        read_bounded(path, FILE_BYTES_MAX, &findings).and_then(|text| parse(&text, FILE_BYTES_MAX, &findings))
    {
        match &root.value {
            Value::Mapping(entries) => read(entries, "", &findings, &mut values),
            _ if root.is_null() => {}
            _ => findings.error(root.position, "the file must be a mapping (`key: value` lines)"),
        }
    }
    match findings.finish().0 {
        errors if errors.is_empty() => Ok(values),
        errors => Err(Refused { errors }),
    }
}

/// Flags that may stand in the file: ours, except the one that names the file.
pub(crate) fn keys() -> impl Iterator<Item = (&'static Flag, String)> {
    let own = FLAGS.iter().filter(|flag| flag.origin == Origin::Holdfast && flag.name != "holdfast.config.file");
    own.map(|flag| (flag, flag.name.replace('-', "_")))
}

fn read(entries: &[Entry], above: &str, findings: &Findings, values: &mut Vec<FlagValue>) {
    for Entry { key, position, node } in entries {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let flag = keys().find(|(_, name)| *name == path).map(|(flag, _)| flag);
        let is_section =
            keys().any(|(_, name)| name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.')));
        match (flag, &node.value) {
            (_, Value::Scalar { .. }) if node.is_null() && (flag.is_some() || is_section) => {}
            (Some(flag), Value::Scalar { text, .. }) => {
                let (value, at, file) = (text.clone(), node.position, findings.file().to_owned());
                values.push(FlagValue { flag, value, at, file });
            }
            (Some(_), _) => findings.error(node.position, format!("{path} must be a single value")),
            (None, Value::Mapping(below)) if is_section => read(below, &path, findings, values),
            (None, _) if is_section => {
                findings.error(node.position, format!("{path} must be a mapping (`key: value` lines)"));
            }
            (None, _) => findings.error(*position, unknown(&path)),
        }
    }
}

fn unknown(path: &str) -> String {
    let near = keys().map(|(_, name)| (edit_distance(path, &name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + path.chars().count() / 5 => {
            format!("{path} is not a known key; did you mean {name}?")
        }
        _ => {
            let names: Vec<String> = keys().map(|(_, name)| name).collect();
            format!("{path} is not a known key; known are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<(&'static str, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("holdfast.yml");
        std::fs::write(&path, text).unwrap();
        let shown = |refused: Refused| refused.to_string().replace(&path.display().to_string(), "FILE");
        load(&path)
            .map(|values| values.into_iter().map(|value| (value.flag.name, value.value)).collect())
            .map_err(shown)
    }

    #[test]
    fn keys_are_the_names_of_our_flags() {
        let text = "memory:\n  limit: 8MiB\nstorage:\n  hot_path: /dev/shm/a\n  flush_interval: ~\nhost: {job: ''}\n";
        let expected = [("memory.limit", "8MiB"), ("storage.hot-path", "/dev/shm/a"), ("host.job", "")];
        assert_eq!(check(text), Ok(expected.map(|(name, value)| (name, value.into())).to_vec()));
        assert_eq!(check(""), Ok(Vec::new()));
        assert_eq!(check("memory:\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_wrong_key_or_shape_is_named_with_its_place() {
        for (text, expected) in [
            ("memory:\n  limits: 8MiB\n", "FILE:2:3: memory.limits is not a known key; did you mean memory.limit?"),
            ("memory: 8MiB\n", "FILE:1:9: memory must be a mapping (`key: value` lines)"),
            ("memory: {limit: [1]}\n", "FILE:1:17: memory.limit must be a single value"),
            ("- a\n", "FILE:1:1: the file must be a mapping (`key: value` lines)"),
        ] {
            assert_eq!(check(text), Err(expected.into()), "{text}");
        }
        let error = check("holdfast: {config: {file: a}}\n").unwrap_err();
        assert!(error.starts_with("FILE:1:1: holdfast is not a known key; known are memory.limit, "), "{error}");
    }
}
