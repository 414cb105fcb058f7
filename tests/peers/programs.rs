//! Starts the programs, each on ports of its own and in a folder of its own, and ends them by process id when the test does.

use crate::api;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Most that a program may need until it answers, on a busy machine.
pub const START_WITHIN: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A child process that does not outlive its owner.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program whose output goes to `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let out = File::options().create(true).append(true).open(&log).expect("a log file");
        let err = out.try_clone().expect("the same log file");
        let name = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; tests/peers/fetch brings it", name.display()));
        Self { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("our child takes signals");
        let ended = poll(Duration::from_secs(15), || self.child.try_wait().expect("our child"));
        assert!(ended.is_some(), "SIGTERM did not end it within 15 s:\n{}", self.log());
    }

    /// SIGKILL: no last word.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child takes signals");
        self.child.wait().expect("our child");
    }

    /// Waits for the end of one that somebody has killed.
    pub fn wait_killed(&mut self) {
        self.child.wait().expect("our child");
    }

    /// The status of a program that has ended, or `None`.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("our child").map(|status| status.code().unwrap_or(-1))
    }

    /// A line of `/proc/PID/status`, in kB or as a count.
    pub fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a known name");
        line.split_whitespace().next().expect("a value").parse().expect("a number")
    }

    pub fn thread_count(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs").count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(15).collect::<Vec<_>>();
            eprintln!("--- the end of {}", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// One holdfast with its folder: `prometheus.yml`, `data`, and the hot state on a RAM file system.
pub struct Holdfast {
    pub program: Program,
    pub port: u16,
    settings: HoldfastSettings,
    folder: TempDir,
    hot: TempDir,
}

/// What a test wants of a holdfast. `{PORT}` in the configuration stands for its own port.
#[derive(Clone, Debug, Default)]
pub struct HoldfastSettings {
    /// Empty: none, as at a first try.
    pub configuration: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// `None`: one that is free.
    pub port: Option<u16>,
    /// Files beside the configuration.
    pub files: Vec<(String, String)>,
}

impl Holdfast {
    pub fn start(configuration: &str) -> Self {
        Self::start_with(HoldfastSettings { configuration: configuration.into(), ..HoldfastSettings::default() })
    }

    pub fn start_with(settings: HoldfastSettings) -> Self {
        let node = Self::spawn(settings);
        node.wait_ready();
        node
    }

    /// Starts without waiting.
    pub fn spawn(settings: HoldfastSettings) -> Self {
        let folder = folder();
        let hot = hot_folder();
        let port = settings.port.unwrap_or_else(free_port);
        for (name, text) in &settings.files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        if !settings.configuration.is_empty() {
            let text = settings.configuration.replace("{PORT}", &port.to_string());
            fs::write(folder.path().join("prometheus.yml"), text).expect("written");
        }
        let program = launch(&settings, folder.path(), hot.path(), port);
        Self { program, port, settings, folder, hot }
    }

    fn wait_ready(&self) {
        wait_answering(self.port, "/-/ready", &self.program);
    }

    /// The figures of a run, under the name of its test, for `bench/shows`.
    pub fn tell(&self, what: &str) {
        let thread = thread::current();
        println!(
            "figure {}: {what}; {} thread, {} kB resident at most",
            thread.name().unwrap_or("main"),
            self.program.thread_count(),
            self.program.status("VmHWM")
        );
    }

    /// The same data, hot state, port and configuration, after it was stopped or killed.
    pub fn start_again(&mut self) {
        self.launch_again();
        self.wait_ready();
    }

    /// As [`Self::start_again`], without waiting.
    pub fn launch_again(&mut self) {
        self.program = launch(&self.settings, self.folder.path(), self.hot.path(), self.port);
    }

    /// What a power cut does to a RAM file system. Only while it does not run.
    pub fn forget_hot_state(&mut self) {
        assert!(self.program.ended().is_some(), "it still runs");
        for entry in fs::read_dir(self.hot.path()).expect("readable") {
            fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn launch(settings: &HoldfastSettings, folder: &Path, hot: &Path, port: u16) -> Program {
    let mut command = holdfast();
    command
        .current_dir(folder)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--storage.hot-path={}", hot.display()))
        .args(&settings.arguments)
        .envs(settings.environment.iter().cloned());
    if !settings.configuration.is_empty() {
        command.arg("--config.file=prometheus.yml");
    }
    Program::start(&mut command, folder.join("holdfast.log"))
}

/// The binary under test, without arguments: cargo's own, or the one `HOLDFAST_BINARY` names (`bench/shows` does).
pub fn holdfast() -> Command {
    Command::new(std::env::var_os("HOLDFAST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into()))
}

/// A number that `bench/shows` raises or lowers for its longer runs.
pub fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text:?}: {error}; give a whole number")),
        Err(_) => default,
    }
}

/// A real Prometheus with its folder.
pub struct Prometheus {
    pub program: Program,
    pub port: u16,
    folder: TempDir,
}

impl Prometheus {
    pub fn start(configuration: &str) -> Self {
        Self::start_on(free_port(), configuration)
    }

    /// On a port that is known beforehand, for one that scrapes itself.
    pub fn start_on(port: u16, configuration: &str) -> Self {
        let folder = folder();
        fs::write(folder.path().join("prometheus.yml"), configuration).expect("written");
        let program = launch_prometheus(folder.path(), port);
        let server = Self { program, port, folder };
        server.wait_ready();
        server
    }

    /// One that only receives.
    pub fn start_upstream() -> Self {
        Self::start("global: {scrape_interval: 1h}\n")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    fn wait_ready(&self) {
        wait_answering(self.port, "/-/ready", &self.program);
    }

    pub fn start_again(&mut self) {
        self.program = launch_prometheus(self.folder.path(), self.port);
        self.wait_ready();
    }
}

fn launch_prometheus(folder: &Path, port: u16) -> Program {
    let mut command = Command::new(peer("prometheus"));
    command.current_dir(folder).args([
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".into(),
        "--web.enable-remote-write-receiver".into(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    Program::start(&mut command, folder.join("prometheus.log"))
}

/// A real node_exporter.
pub struct NodeExporter {
    pub program: Program,
    pub port: u16,
    folder: TempDir,
}

impl NodeExporter {
    pub fn start() -> Self {
        let (folder, port) = (folder(), free_port());
        let program = launch_node_exporter(folder.path(), port);
        let exporter = Self { program, port, folder };
        exporter.wait_answering();
        exporter
    }

    pub fn start_again(&mut self) {
        self.program = launch_node_exporter(self.folder.path(), self.port);
        self.wait_answering();
    }

    fn wait_answering(&self) {
        wait_answering(self.port, "/metrics", &self.program);
    }
}

fn launch_node_exporter(folder: &Path, port: u16) -> Program {
    let mut command = Command::new(peer("node_exporter"));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Program::start(&mut command, folder.join("node_exporter.log"))
}

/// A real Alertmanager that hands everything on to a webhook.
pub struct Alertmanager {
    pub program: Program,
    pub port: u16,
    folder: TempDir,
}

impl Alertmanager {
    pub fn start(webhook_port: u16) -> Self {
        let (folder, port) = (folder(), free_port());
        let configuration = format!(
            "route: {{receiver: test, group_wait: 0s, group_interval: 1s, repeat_interval: 1h, group_by: [alertname]}}\n\
             receivers:\n\
             - name: test\n\
             \x20 webhook_configs: [{{url: 'http://127.0.0.1:{webhook_port}/', send_resolved: true}}]\n"
        );
        fs::write(folder.path().join("alertmanager.yml"), configuration).expect("written");
        let program = launch_alertmanager(folder.path(), port);
        let alertmanager = Self { program, port, folder };
        wait_answering(port, "/-/ready", &alertmanager.program);
        alertmanager
    }

    pub fn start_again(&mut self) {
        self.program = launch_alertmanager(self.folder.path(), self.port);
        wait_answering(self.port, "/-/ready", &self.program);
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn launch_alertmanager(folder: &Path, port: u16) -> Program {
    let mut command = Command::new(peer("alertmanager"));
    command.current_dir(folder).args([
        "--config.file=alertmanager.yml".to_owned(),
        "--storage.path=data".into(),
        "--cluster.listen-address=".into(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    Program::start(&mut command, folder.join("alertmanager.log"))
}

/// One of the fetched programs.
pub fn peer(name: &str) -> PathBuf {
    let folder = std::env::var_os("HOLDFAST_PEERS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run tests/peers/fetch, or let HOLDFAST_PEERS name the folder of the programs",
        path.display()
    );
    path
}

/// Runs a program to its end; it must come within 20 s.
pub fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // What these programs print fits in a pipe, so that they end without being read.
    if poll(START_WITHIN, || child.try_wait().expect("our child")).is_none() {
        let _ = child.kill();
        let output = child.wait_with_output().expect("our child");
        panic!("{command:?} did not end within {START_WITHIN:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    child.wait_with_output().expect("our child")
}

pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("holdfast-peers-").tempdir().expect("a temporary folder")
}

/// On the RAM file system that every Linux machine has, so that a test leaves nothing in the usual place.
pub fn hot_folder() -> TempDir {
    tempfile::Builder::new().prefix("holdfast-peers-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

/// A port that is free now, and that no other test of this run is given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has free ports");
        let port = listener.local_addr().expect("bound").port();
        if given.insert(port) {
            return port;
        }
    }
}

/// A free port below those that the kernel gives to outgoing connections, for a program that is to have it again after
/// its end. `HOLDFAST_PEERS_PORT` is the first that is tried.
pub fn stable_port() -> u16 {
    let first = u16::try_from(number_from("HOLDFAST_PEERS_PORT", 29_000)).expect("a port");
    let free = (first..32_768).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.unwrap_or_else(|| {
        panic!("no port between {first} and 32767 is free; HOLDFAST_PEERS_PORT names the first to try")
    })
}

/// Asks again and again until there is an answer, or the time is over.
pub fn poll<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Like [`poll`], and fails the test in words.
pub fn wait_for<T>(what: &str, within: Duration, ask: impl FnMut() -> Option<T>) -> T {
    poll(within, ask).unwrap_or_else(|| panic!("not within {within:?}: {what}"))
}

fn wait_answering(port: u16, path: &str, program: &Program) {
    let answered = poll(START_WITHIN, || api::get(port, path).ok().filter(|answer| answer.status == 200));
    assert!(answered.is_some(), "no answer on port {port} within {START_WITHIN:?}:\n{}", program.log());
}
