//! Keeps `docs/CONFIG.md` equal to the tables of flags and keys.
//!
//! With HOLDFAST_WRITE_DOCS set, the page's tables are written anew.

use super::{
    holdfast,
    keys::{ALL, Effect, Key},
};
use crate::cli::flags::{self, FLAGS, Flag, Origin};
use std::fs;

#[test]
fn the_page_has_every_flag_and_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
    let page = fs::read_to_string(path).unwrap();
    let mut fresh = page.clone();
    for (name, table) in [
        ("prometheus-flags", flags_table(Origin::Prometheus)),
        ("hidden-flags", flags_table(Origin::PrometheusHidden)),
        ("own-flags", flags_table(Origin::Holdfast)),
        ("keys", keys_tables()),
    ] {
        let (open, close) = (format!("<!-- table: {name} -->\n"), format!("<!-- end: {name} -->\n"));
        let from = fresh.find(&open).unwrap_or_else(|| panic!("docs/CONFIG.md lacks {open}")) + open.len();
        let to = from + fresh[from..].find(&close).unwrap_or_else(|| panic!("docs/CONFIG.md lacks {close}"));
        fresh.replace_range(from..to, &table);
    }
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        fs::write(path, &fresh).unwrap();
    }
    for (number, (found, expected)) in page.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(found, expected, "line {}; write the tables anew with HOLDFAST_WRITE_DOCS=1", number + 1);
    }
    assert!(page == fresh, "the tables have another length; write them anew with HOLDFAST_WRITE_DOCS=1");
}

fn flags_table(origin: Origin) -> String {
    let mut rows: Vec<&Flag> = FLAGS.iter().filter(|flag| flag.origin == origin).collect();
    rows.sort_by_key(|flag| flag.name);
    let key = |flag: &Flag| holdfast::keys().find(|(own, _)| own.name == flag.name).map(|(_, key)| key);
    let mut table = match origin {
        Origin::Holdfast => "| flag | key in the file | default | meaning |\n|---|---|---|---|\n".to_owned(),
        _ => "| flag | default | here | |\n|---|---|---|---|\n".to_owned(),
    };
    for flag in rows {
        let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let (here, text) = match flag.effect {
            flags::Effect::Honoured => ("honoured", flag.help),
            flags::Effect::Ignored(why) => ("ignored with a notice", why),
            flags::Effect::Refused(advice) => ("refused", advice),
        };
        let text = text.replace('|', "\\|");
        table += &match origin {
            Origin::Holdfast => {
                let key = key(flag).map_or("".into(), |key| format!("`{key}`"));
                format!("| `--{}` | {key} | {default} | {text} |\n", flag.name)
            }
            _ => format!("| `--{}` | {default} | {here} | {text} |\n", flag.name),
        };
    }
    table
}

fn keys_tables() -> String {
    let mut text = String::new();
    for table in ALL {
        text += &format!("### `{}`\n\n| key | here | |\n|---|---|---|\n", table.section);
        let mut rows: Vec<&Key> = table.keys().collect();
        rows.sort_by_key(|key| (rank(key), key.name));
        for key in rows {
            let (here, more) = match key.effect {
                Effect::Honoured => ("supported".to_owned(), key.help.to_owned()),
                Effect::Ignored(why) => ("ignored with a notice".into(), why.into()),
                Effect::Only(values, advice) => {
                    (format!("only `{}`", values.first().copied().unwrap_or_default()), advice.into())
                }
                Effect::NotYet(advice) => ("not supported yet".into(), advice.into()),
            };
            text += &format!("| `{}` | {here} | {more} |\n", key.name);
        }
        text.push('\n');
    }
    text
}

/// Supported keys first.
fn rank(key: &Key) -> u8 {
    match key.effect {
        Effect::Honoured => 0,
        Effect::Only(..) => 1,
        Effect::Ignored(_) => 2,
        Effect::NotYet(_) => 3,
    }
}
