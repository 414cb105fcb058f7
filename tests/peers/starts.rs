//! Starts that must fail: one clear line (a broken configuration: one per mistake), the status, and nothing touched.

use crate::programs::{Holdfast, Prometheus, folder, free_port, holdfast, hot_folder, run};
use std::{collections::BTreeMap, fs, net::TcpListener, path::Path};

/// Starts a holdfast that is to fail; gives its status and what it said.
fn refused(data: &Path, arguments: &[&str]) -> (i32, String) {
    let (place, hot) = (folder(), hot_folder());
    let mut command = holdfast();
    command
        .current_dir(place.path())
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--storage.hot-path={}", hot.path().display()))
        .args(arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--web.listen-address")) {
        command.arg(format!("--web.listen-address=127.0.0.1:{}", free_port()));
    }
    let output = run(&mut command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(files(hot.path()), BTreeMap::new(), "no hot state is left behind");
    (output.status.code().expect("an exit status"), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// Every file below a folder, with its content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => {
                    found.insert(format!("{}/", path.display()), Vec::new());
                    folders.push(path);
                }
                false => {
                    found.insert(path.display().to_string(), fs::read(&path).expect("readable"));
                }
            }
        }
    }
    found
}

fn assert_one_line(words: &str, parts: &[&str]) {
    assert_eq!(words.lines().count(), 1, "one line: {words}");
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in: {words}");
    }
}

#[test]
fn a_broken_configuration_ends_with_2_and_every_error_at_its_position() {
    let place = folder();
    let (file, data) = (place.path().join("prometheus.yml"), place.path().join("data"));
    fs::write(&file, "global:\n  scrape_intervall: 1s\nscrape_configs:\n- job_name: a\n  scrape_timeout: soon\n")
        .expect("written");
    let (status, words) = refused(&data, &[&format!("--config.file={}", file.display())]);
    assert_eq!(status, 2, "{words}");
    for position in ["prometheus.yml:2:3: ", "prometheus.yml:5:19: "] {
        assert!(words.contains(position), "{position:?} is missing in:\n{words}");
    }
    assert_eq!(words.lines().count(), 2, "{words}");
    assert!(!data.exists());

    let (status, words) = refused(&data, &["--config.file=nowhere.yml"]);
    assert_eq!(status, 2, "{words}");
    assert_one_line(&words, &["nowhere.yml"]);
    assert!(!data.exists());
}

#[test]
fn a_taken_port_ends_with_1_before_anything_is_made() {
    let place = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("the kernel has free ports");
    let address = taken.local_addr().expect("bound").to_string();
    let (status, words) = refused(&place.path().join("data"), &[&format!("--web.listen-address={address}")]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &[&address, "--web.listen-address"]);
    assert_eq!(files(place.path()), BTreeMap::new());
}

#[test]
fn a_data_directory_that_cannot_be_written_ends_with_1() {
    // Not even root makes a folder there.
    let (status, words) = refused(Path::new("/proc/holdfast-peers"), &[]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &["/proc/holdfast-peers", "--storage.tsdb.path"]);

    let place = folder();
    let file = place.path().join("data");
    fs::write(&file, "a file").expect("written");
    let (status, words) = refused(&file, &[]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &["data", "--storage.tsdb.path"]);
    assert_eq!(fs::read(&file).expect("readable"), b"a file");
}

#[test]
fn the_data_of_a_real_prometheus_is_refused_and_left_as_it_was() {
    let mut prometheus = Prometheus::start_upstream();
    prometheus.program.stop();
    let data = prometheus.data();
    let before = files(&data);
    let (status, words) = refused(&data, &[]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &["Prometheus", "--storage.tsdb.path"]);
    assert!(files(&data) == before, "nothing was touched");
    prometheus.start_again();
}

#[test]
fn a_second_holdfast_on_the_same_data_ends_with_1_and_the_first_goes_on() {
    let mut first = Holdfast::start("global: {scrape_interval: 1s}\n");
    let (status, words) = refused(&first.data(), &[]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &[&format!("process {}", first.program.id()), "--storage.tsdb.path"]);
    assert_eq!(first.program.ended(), None);
    first.program.stop();
    first.start_again();
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_was() {
    let mut node = Holdfast::start("global: {scrape_interval: 1s}\n");
    node.program.stop();
    assert_eq!(node.program.ended(), Some(0), "{}", node.program.log());
    let database = rusqlite::Connection::open(node.data().join("holdfast.db")).expect("a database");
    database.pragma_update(None, "user_version", 100).expect("written");
    database.close().expect("closed");
    // All but the lock, which names the last process that held it.
    let contents = || {
        let mut files = files(&node.data());
        files.retain(|name, _| !name.ends_with("/lock"));
        files
    };
    let before = contents();
    let (status, words) = refused(&node.data(), &[]);
    assert_eq!(status, 1, "{words}");
    assert_one_line(&words, &["holdfast.db", "version 100", "newer"]);
    let after = contents();
    let changed: Vec<_> =
        after.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)).map(|(name, _)| name).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "touched: {changed:?}");
}
