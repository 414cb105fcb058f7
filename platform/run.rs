//! The one loop: feeds what happens to the machine, performs what it asks for, sleeps in between.
//!
//! ```text
//!         +-> poll_output until SleepUntil / Again -> perform each effect --+
//!         |                                                                  v
//!     handle(event) <--------- socket event, signal, time ---------------- wait
//! ```
//!
//! One thread: sockets are local tasks, which run while the loop waits; a disk's effects are done inline and answered at
//! once. What is asked for with `Again` goes on after the sockets have been looked at.

use crate::{
    clock::Clock,
    disk::Disk,
    log, memory,
    net::{
        Event, Events,
        dns::Resolver,
        fetch::{FetchRequest, Fetcher},
        push::{PostRequest, Pusher},
        serve::{self, Pages, ServeError, ServeSettings, Server},
    },
    systemd::ServiceManager,
};
use bytes::Bytes;
use holdfast_core::{
    daemon::{
        Input, Output, Settings,
        input::{FetchId, Usage},
        output::{FetchWhat, OUTPUT_BYTES_MAX},
    },
    store::stored::Stored,
    time::Now,
};
use std::{future::Future, io, rc::Rc, time::Duration};
use tokio::{
    runtime::{Builder, LocalOptions},
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{spawn_local, yield_now},
};

/// How often the machine is told of memory and disk, and stalled clients are looked for.
const USAGE_INTERVAL_MS: u64 = 5_000;
/// Outputs performed before the sockets are looked at again, however many more there are.
const OUTPUTS_PER_TURN: usize = 64;
/// Events handled before the sockets are looked at again.
const EVENTS_PER_TURN: usize = 16;
/// A piece of the host's own metrics, as a piece of any body.
const HOST_PIECE_BYTES: usize = 16 * 1024;

/// What the loop drives: the core's daemon, or a stand-in in tests. The contract is `holdfast_core::daemon`'s.
pub trait Machine {
    fn handle(&mut self, now: Now, input: Input<'_>, stored: &mut dyn Stored);
    fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b>;
}

#[derive(Clone, Debug)]
pub struct NetSettings {
    /// `--web.listen-address`, in order.
    pub listen: Vec<String>,
    pub serve: ServeSettings,
    pub pages: Pages,
    /// Connections kept between scrapes; the targets beyond it get a new one each time.
    pub kept_targets_max: usize,
    /// Connections kept to upstreams and Alertmanagers.
    pub kept_peers_max: usize,
}

/// Bound ports, waiting for the rest of the daemon: a taken port is found before anything is touched.
pub struct Net {
    listeners: Vec<std::net::TcpListener>,
    settings: NetSettings,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The machine said that all is flushed.
    Stopped,
    /// A second signal came before that: what was not yet flushed is in the slab only.
    Forced,
}

/// What the outside may ask of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT. The second one ends the loop at once.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Everything the loop needs besides the machine.
pub struct Surroundings<'a> {
    pub clock: Clock,
    pub disk: &'a mut dyn Disk,
    /// Writes the host's metrics in the text format.
    pub host: &'a mut dyn FnMut(&mut String),
    /// Reads the configuration again; errors in lines.
    pub reread: &'a mut dyn FnMut() -> Result<Settings, String>,
    pub manager: ServiceManager,
}

impl Net {
    /// Binds every address, or says which one cannot be had and what to do.
    pub fn listen(settings: NetSettings) -> Result<Self, ServeError> {
        Ok(Self { listeners: serve::bind(&settings.listen)?, settings })
    }

    /// Runs a machine until it has stopped, on this thread, with signals of the process.
    pub fn run<'a>(self, machine: &'a mut dyn Machine, surroundings: Surroundings<'a>) -> io::Result<Ended> {
        on_one_thread(async {
            let signals = watch_signals()?;
            self.run_with(machine, surroundings, signals).await
        })?
    }

    /// The same within a runtime, with signals from anywhere.
    pub async fn run_with<'a>(
        self,
        machine: &'a mut dyn Machine,
        surroundings: Surroundings<'a>,
        signals: UnboundedReceiver<Signal>,
    ) -> io::Result<Ended> {
        let events = Events::new();
        let resolver = Rc::new(Resolver::system());
        let NetSettings { serve, pages, kept_targets_max, kept_peers_max, .. } = self.settings;
        let server = Server::start(self.listeners, serve, pages, events.clone())?;
        let watchdog_ms = surroundings.manager.watchdog_interval.map(|interval| interval.as_millis() as u64);
        let mut run = Loop {
            fetcher: Fetcher::new(events.clone(), Rc::clone(&resolver), kept_targets_max),
            pusher: Pusher::new(events.clone(), resolver, kept_peers_max),
            usage_due_ms: 0,
            watchdog_ms,
            watchdog_due_ms: 0,
            has_reported_ready: false,
            is_stopping: false,
            buf: vec![0; OUTPUT_BYTES_MAX],
            events,
            server,
            machine,
            surroundings,
        };
        Ok(run.run(signals).await)
    }
}

struct Loop<'a> {
    machine: &'a mut dyn Machine,
    surroundings: Surroundings<'a>,
    events: Events,
    server: Server,
    fetcher: Fetcher,
    pusher: Pusher,
    buf: Vec<u8>,
    usage_due_ms: u64,
    watchdog_ms: Option<u64>,
    watchdog_due_ms: u64,
    has_reported_ready: bool,
    is_stopping: bool,
}

/// What the machine wants after it was drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    At { mono_ms: u64 },
    Soon,
    Never,
}

impl Loop<'_> {
    async fn run(&mut self, mut signals: UnboundedReceiver<Signal>) -> Ended {
        loop {
            let mut wake = self.drain();
            for _ in 0..EVENTS_PER_TURN {
                let Some(mut event) = self.events.pop() else { break };
                self.handle(event.input());
                wake = self.drain();
                if wake == Wake::Never {
                    break;
                }
            }
            if wake == Wake::Never {
                return Ended::Stopped;
            }
            self.report_ready();
            let signal = match wake {
                Wake::At { mono_ms } => self.wait(mono_ms, &mut signals).await,
                Wake::Soon | Wake::Never => {
                    yield_now().await;
                    signals.try_recv().ok()
                }
            };
            match signal {
                Some(Signal::Stop) if self.is_stopping => return Ended::Forced,
                Some(Signal::Stop) => {
                    self.is_stopping = true;
                    self.surroundings.manager.stopping();
                    self.handle(Input::Stop);
                }
                Some(Signal::Reload) => self.reload(),
                None => {}
            }
            self.keep_house(wake);
        }
    }

    /// Until a signal, an event, or the earliest time that something is due.
    async fn wait(&self, mono_ms: u64, signals: &mut UnboundedReceiver<Signal>) -> Option<Signal> {
        let mut due_ms = mono_ms.min(self.usage_due_ms);
        if self.watchdog_ms.is_some() {
            due_ms = due_ms.min(self.watchdog_due_ms);
        }
        let due = self.surroundings.clock.instant(due_ms);
        tokio::select! {
            biased;
            // Without a sender left, this branch is out and the others go on.
            Some(signal) = signals.recv() => Some(signal),
            () = self.events.arrived() => None,
            () = tokio::time::sleep_until(due.into()) => None,
        }
    }

    /// What is due by the clock: the machine's own time, the figures, the watchdog.
    fn keep_house(&mut self, wake: Wake) {
        let now_ms = self.surroundings.clock.now().mono_ms;
        if matches!(wake, Wake::At { mono_ms } if mono_ms <= now_ms) {
            self.handle(Input::Tick);
        }
        if now_ms >= self.usage_due_ms {
            self.usage_due_ms = now_ms + USAGE_INTERVAL_MS;
            self.server.sweep();
            let usage = self.usage();
            self.handle(Input::Usage(usage));
            self.tell_losses();
        }
        if let Some(interval_ms) = self.watchdog_ms
            && now_ms >= self.watchdog_due_ms
        {
            self.watchdog_due_ms = now_ms + interval_ms;
            self.surroundings.manager.alive();
        }
    }

    /// Everything is up once the machine has been drained for the first time.
    fn report_ready(&mut self) {
        if !std::mem::replace(&mut self.has_reported_ready, true) {
            self.surroundings.manager.ready();
        }
    }

    fn usage(&mut self) -> Usage {
        let disk = self.surroundings.disk.usage();
        Usage {
            disk_bytes: disk.disk_bytes,
            disk_quota_bytes: disk.quota_bytes,
            dropped_segment_count: disk.dropped_segment_count,
            dropped_until_ms: disk.dropped_until_ms,
            disk_failure_count: disk.failure_count,
            disk_stall_ms_max: disk.stall_ms_max,
            connections: self.server.connection_count() as u32,
            ..memory::process_usage()
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.machine.handle(self.surroundings.clock.now(), input, self.surroundings.disk.stored());
    }

    /// What the disk had to drop goes into the ledger at once.
    fn tell_losses(&mut self) {
        while let Some(loss) = self.surroundings.disk.take_loss() {
            self.handle(Input::Lost(loss.loss()));
        }
    }

    fn reload(&mut self) {
        match (self.surroundings.reread)() {
            Ok(settings) => self.handle(Input::Settings(Box::new(settings))),
            Err(errors) => self.handle(Input::SettingsRefused { errors: &errors }),
        }
    }

    /// Performs what the machine asks for, until it has nothing more to ask or the sockets have waited long enough.
    fn drain(&mut self) -> Wake {
        let mut buf = std::mem::take(&mut self.buf);
        let mut wake = Wake::Soon;
        for _ in 0..OUTPUTS_PER_TURN {
            let now = self.surroundings.clock.now();
            let output = self.machine.poll_output(now, &mut buf, self.surroundings.disk.stored());
            if let Some(ended) = self.perform(output) {
                wake = ended;
                break;
            }
        }
        self.buf = buf;
        wake
    }

    /// Performs one output; tells what the drained machine wants.
    fn perform(&mut self, output: Output<'_>) -> Option<Wake> {
        match output {
            Output::SleepUntil { mono_ms } => return Some(Wake::At { mono_ms }),
            Output::Again => return Some(Wake::Soon),
            Output::Stopped => return Some(Wake::Never),

            Output::Fetch { fetch, target, what: FetchWhat::Http { url, accept, timeout_header }, timeout_ms } => {
                self.fetcher.start(fetch, FetchRequest { target, url, accept, timeout_header, timeout_ms });
            }
            Output::Fetch { fetch, what: FetchWhat::Host, .. } => self.fetch_host(fetch),
            Output::FetchAbort { fetch } => self.fetcher.abort(fetch),
            Output::TargetGone { target } => self.fetcher.target_gone(target),

            Output::Respond { request, status, headers } => self.server.respond(request, status, headers),
            Output::RespondBody { request, bytes, last, broken } => {
                self.server.respond_body(request, bytes, last, broken);
            }
            Output::RespondPage { request, path } => self.server.respond_page(request, path),

            Output::Post { post, peer, url, kind, timeout_ms, body } => {
                self.pusher.start(post, PostRequest { peer, url, kind, timeout_ms, body });
            }

            Output::LogAppend { generation, bytes } => self.surroundings.disk.log_append(generation, bytes),
            Output::LogSync { token } => {
                let result = self.surroundings.disk.log_sync();
                self.handle(Input::LogSynced { token, result: words(&result) });
            }
            Output::Put(put) => self.surroundings.disk.put(put),
            Output::Commit { token } => {
                let result = self.surroundings.disk.commit();
                self.handle(Input::Committed { token, result: words(&result) });
                self.tell_losses();
            }

            Output::Reload => self.reload(),
            Output::Log { level, cause, message } => log::line(level, cause, message),
        }
        None
    }

    /// The host's own metrics arrive as any other body does.
    fn fetch_host(&mut self, fetch: FetchId) {
        let mut text = String::new();
        (self.surroundings.host)(&mut text);
        let content_type = "text/plain; version=0.0.4; charset=utf-8".to_owned();
        self.events.push(Event::FetchHead { fetch, status: 200, content_type });
        let mut rest = Bytes::from(text);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(HOST_PIECE_BYTES));
            self.events.push(Event::FetchBody { fetch, bytes: piece });
        }
        self.events.push(Event::FetchEnd { fetch });
    }
}

fn words(result: &Result<(), String>) -> Result<(), &str> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs a future with its local tasks on this thread, and on no other: nothing of it may block in a thread pool.
pub fn on_one_thread<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(result)
}

/// SIGTERM, SIGINT and SIGHUP as [`Signal`]s.
fn watch_signals() -> io::Result<UnboundedReceiver<Signal>> {
    let (sender, receiver) = unbounded_channel();
    for (kind, meaning) in [
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
    ] {
        spawn_local(pass_on(signal(kind)?, meaning, sender.clone()));
    }
    Ok(receiver)
}

async fn pass_on(mut signal: tokio::signal::unix::Signal, meaning: Signal, sender: UnboundedSender<Signal>) {
    while signal.recv().await.is_some() && sender.send(meaning).is_ok() {}
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
