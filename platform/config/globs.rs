//! Finds the files of a pattern of `rule_files`, as Go's `filepath.Glob` does.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Whether the text is a pattern and not just a path.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// The existing files and directories that match, in order of name. What cannot be listed matches nothing.
///
/// `Err`: the pattern has an unclosed `[` or ends in `\`.
pub(crate) fn expand(pattern: &Path) -> Result<Vec<PathBuf>, ()> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let Some(name) = name.to_str().filter(|name| is_pattern(name)) else {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        };
        matches(name, "")?;
        let mut deeper = Vec::new();
        for folder in &found {
            let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let Ok(entries) = fs::read_dir(listed) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().to_str().is_some_and(|file| matches(name, file) == Ok(true)) {
                    deeper.push(folder.join(entry.file_name()));
                }
            }
        }
        deeper.sort();
        found = deeper;
    }
    found.retain(|path| path.exists());
    Ok(found)
}

/// One part of a path against one part of a pattern: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a literal character.
fn matches(pattern: &str, name: &str) -> Result<bool, ()> {
    let (pieces, name) = (parse(pattern)?, name.chars().collect::<Vec<_>>());
    let (mut piece, mut at) = (0, 0);
    // Where to go on when a guess about the last star was too short.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pieces.get(piece) {
            Some(Piece::Star) => {
                star = Some((piece, at));
                piece += 1;
                continue;
            }
            Some(one) if one.takes(name[at]) => {
                (piece, at) = (piece + 1, at + 1);
                continue;
            }
            _ => {}
        }
        let Some((star_piece, star_at)) = star else { return Ok(false) };
        star = Some((star_piece, star_at + 1));
        (piece, at) = (star_piece + 1, star_at + 1);
    }
    Ok(pieces[piece..].iter().all(|piece| matches!(piece, Piece::Star)))
}

enum Piece {
    Star,
    Any,
    One(char),
    Range { ranges: Vec<(char, char)>, negated: bool },
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::One(own) => *own == c,
            Self::Range { ranges, negated } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

fn parse(pattern: &str) -> Result<Vec<Piece>, ()> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Star,
            '?' => Piece::Any,
            '\\' => Piece::One(chars.next().ok_or(())?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut bound = || match chars.next() {
                        Some('\\') => chars.next().ok_or(()),
                        Some(']') if !ranges.is_empty() => Ok(']'),
                        Some(']' | '-') | None => Err(()),
                        Some(c) => Ok(c),
                    };
                    let from = bound()?;
                    if from == ']' {
                        break;
                    }
                    let to = if chars.next_if_eq(&'-').is_some() { chars.next().ok_or(())? } else { from };
                    ranges.push((from, to));
                }
                Piece::Range { ranges, negated }
            }
            c => Piece::One(c),
        });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_match_as_in_go() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", Ok(true)),
            ("*.yml", ".yml", Ok(true)),
            ("*.yml", "a.yaml", Ok(false)),
            ("a*b*c", "aXbYbZc", Ok(true)),
            ("a*b*c", "aXbYbZ", Ok(false)),
            ("?", "ü", Ok(true)),
            ("?", "", Ok(false)),
            ("[a-c]x", "bx", Ok(true)),
            ("[a-c]x", "dx", Ok(false)),
            ("[^a-c]x", "dx", Ok(true)),
            (r"\*", "*", Ok(true)),
            (r"\*", "a", Ok(false)),
            ("[", "a", Err(())),
            ("[]", "a", Err(())),
            ("a\\", "a", Err(())),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_in_order_and_only_when_they_exist() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(&folder.path().join(pattern)).unwrap();
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("*.yml"), ["a.yml", "b.yml"]);
        assert_eq!(names("c.txt"), ["c.txt"]);
        assert!(names("d.txt").is_empty() && names("none/*.yml").is_empty());
        assert_eq!(expand(&folder.path().join("[")), Err(()));
    }
}
