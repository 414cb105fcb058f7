use super::*;
use crate::{disk::ram::Ram, net::serve::PageFile};
use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// What a test's machine answers when it is polled, in turn.
type Step = Box<dyn for<'b> FnMut(Now, &'b mut [u8]) -> Output<'b>>;

/// Plays a script, and writes down what it is told.
#[derive(Default)]
struct Scripted {
    steps: std::collections::VecDeque<Step>,
    told: Vec<String>,
    /// Ends when told to stop, without waiting for the script.
    stops: bool,
    /// Ends when told so many things.
    stops_after: Option<usize>,
    /// Where to sleep until when the script has run out.
    idle_until_ms: Option<u64>,
    stop_asked: bool,
    on_request: Option<fn(holdfast_core::daemon::input::RequestId) -> Vec<Step>>,
}

impl Scripted {
    fn step(mut self, step: impl for<'b> FnMut(Now, &'b mut [u8]) -> Output<'b> + 'static) -> Self {
        self.steps.push_back(Box::new(step));
        self
    }
}

impl Machine for Scripted {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut dyn Stored) {
        self.told.push(match input {
            Input::Tick => "tick".to_owned(),
            Input::LogSynced { token, result } => format!("synced {token} {result:?}"),
            Input::Committed { token, result } => format!("committed {token} {result:?}"),
            Input::FetchHead { status, .. } => format!("head {status}"),
            Input::FetchBody { bytes, .. } => format!("body {}", bytes.len()),
            Input::FetchEnd { .. } => "end".to_owned(),
            Input::FetchFailed { error, .. } => format!("failed {error}"),
            Input::SettingsRefused { errors } => format!("refused {errors}"),
            Input::Settings(settings) => format!("settings {}", settings.yaml),
            Input::Stop => {
                self.stop_asked = true;
                "stop".to_owned()
            }
            Input::Request { request, .. } => {
                self.steps.extend(self.on_request.map(|make| make(request)).unwrap_or_default());
                "request".to_owned()
            }
            // Comes by the clock, not by the script.
            Input::Usage(usage) => {
                assert!(usage.resident_bytes > 0);
                return;
            }
            _ => "other".to_owned(),
        });
    }

    fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], _: &mut dyn Stored) -> Output<'b> {
        if (self.stop_asked && self.stops) || self.stops_after == Some(self.told.len()) {
            return Output::Stopped;
        }
        match self.steps.pop_front() {
            Some(mut step) => step(now, buf),
            None => Output::SleepUntil { mono_ms: self.idle_until_ms.unwrap_or(now.mono_ms + 60_000) },
        }
    }
}

fn no_pages(_: &str) -> Option<PageFile> {
    None
}

fn net() -> (Net, SocketAddr) {
    let settings = NetSettings {
        listen: vec!["127.0.0.1:0".to_owned()],
        serve: ServeSettings::default(),
        pages: no_pages,
        kept_targets_max: 4,
        kept_peers_max: 4,
    };
    let net = Net::listen(settings).expect("bound");
    let address = net.listeners[0].local_addr().expect("bound");
    (net, address)
}

/// Runs a machine over a disk that keeps nothing, with signals sent before the start.
fn run(machine: &mut Scripted, signals: &[Signal]) -> Ended {
    run_over(machine, signals, net().0)
}

fn run_over(machine: &mut Scripted, signals: &[Signal], net: Net) -> Ended {
    let (sender, receiver) = unbounded_channel();
    for &signal in signals {
        sender.send(signal).expect("open");
    }
    let surroundings = Surroundings {
        clock: Clock::start(),
        disk: &mut Ram::new([0; 16]),
        host: &mut |text| text.push_str(&"x".repeat(HOST_PIECE_BYTES + 1)),
        reread: &mut || Err("line 1: nonsense".to_owned()),
        manager: ServiceManager::from_environment().expect("none"),
    };
    on_one_thread(async {
        let running = net.run_with(machine, surroundings, receiver);
        tokio::time::timeout(Duration::from_secs(20), running).await.expect("the loop hangs").expect("started")
    })
    .expect("a runtime")
}

#[test]
fn the_machine_is_woken_at_its_time_and_the_loop_ends_when_it_has_stopped() {
    let mut machine = Scripted { idle_until_ms: Some(20), stops_after: Some(1), ..Scripted::default() };
    let started = std::time::Instant::now();
    assert_eq!(run(&mut machine, &[]), Ended::Stopped);
    assert!(started.elapsed() >= Duration::from_millis(20));
    assert_eq!(machine.told, ["tick"]);
}

#[test]
fn effects_of_the_disk_are_answered_before_the_next_output() {
    let mut machine = Scripted::default()
        .step(|_, buf| {
            buf[..3].copy_from_slice(b"row");
            Output::LogAppend { generation: 1, bytes: &buf[..3] }
        })
        .step(|_, _| Output::LogSync { token: 7 })
        .step(|_, _| Output::Commit { token: 8 })
        .step(|_, _| Output::Again)
        .step(|_, _| Output::Stopped);
    assert_eq!(run(&mut machine, &[]), Ended::Stopped);
    assert_eq!(machine.told, ["synced 7 Ok(())", "committed 8 Ok(())"]);
}

#[test]
fn the_hosts_metrics_arrive_as_a_body_in_pieces() {
    let mut machine = Scripted::default().step(|_, _| Output::Fetch {
        fetch: FetchId(1),
        target: 0,
        what: FetchWhat::Host,
        timeout_ms: 1_000,
    });
    machine.stops = true;
    assert_eq!(run(&mut machine, &[Signal::Stop]), Ended::Stopped);
    assert_eq!(machine.told, ["head 200", "body 16384", "body 1", "end", "stop"]);
}

#[test]
fn a_reload_that_fails_is_told_to_the_machine_whoever_asked_for_it() {
    let mut machine = Scripted::default().step(|_, _| Output::Reload);
    machine.stops = true;
    assert_eq!(run(&mut machine, &[Signal::Reload, Signal::Stop]), Ended::Stopped);
    assert_eq!(machine.told, ["refused line 1: nonsense", "refused line 1: nonsense", "stop"]);
}

#[test]
fn a_second_stop_does_not_wait_for_the_first() {
    let mut machine = Scripted::default();
    assert_eq!(run(&mut machine, &[Signal::Stop, Signal::Stop]), Ended::Forced);
    assert_eq!(machine.told, ["stop"]);
}

/// A query that yields for ever must not keep a due scrape or another client waiting.
#[test]
fn a_machine_that_always_has_more_to_do_still_answers_a_client() {
    thread_local! {
        static DONE: RefCell<bool> = const { RefCell::new(false) };
    }
    let (net, address) = net();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    });
    struct Busy(Scripted);
    impl Machine for Busy {
        fn handle(&mut self, now: Now, input: Input<'_>, stored: &mut dyn Stored) {
            self.0.handle(now, input, stored);
        }
        fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b> {
            match self.0.poll_output(now, buf, stored) {
                // Work without end, until the client has its answer.
                Output::SleepUntil { .. } if DONE.with_borrow(|done| *done) => Output::Stopped,
                Output::SleepUntil { .. } => Output::Again,
                output => output,
            }
        }
    }
    let mut machine = Busy(Scripted {
        on_request: Some(|request| {
            vec![
                Box::new(move |_, _| Output::Respond { request, status: 200, headers: &[] }),
                Box::new(move |_, _| Output::RespondBody { request, bytes: b"ok", last: true, broken: false }),
                // One more turn of the sockets, so that the answer is sent.
                Box::new(|_, _| Output::Again),
                Box::new(|_, _| Output::Again),
                Box::new(|_, _| {
                    DONE.with_borrow_mut(|done| *done = true);
                    Output::Again
                }),
            ]
        }),
        ..Scripted::default()
    });
    let surroundings = Surroundings {
        clock: Clock::start(),
        disk: &mut Ram::new([0; 16]),
        host: &mut |_| (),
        reread: &mut || Err(String::new()),
        manager: ServiceManager::from_environment().expect("none"),
    };
    let (_sender, receiver) = unbounded_channel();
    let ended = on_one_thread(async {
        let running = net.run_with(&mut machine, surroundings, receiver);
        tokio::time::timeout(Duration::from_secs(20), running).await.expect("the loop hangs").expect("started")
    });
    assert_eq!(ended.expect("a runtime"), Ended::Stopped);
    let text = client.join().expect("the client ends");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok"), "{text}");
    assert_eq!(machine.0.told, ["request"]);
}

#[test]
fn a_scrape_of_nobody_fails_in_words() {
    let mut machine = Scripted::default().step(|_, buf| {
        buf[..21].copy_from_slice(b"http://127.0.0.1:1/me");
        let url = std::str::from_utf8(&buf[..21]).expect("text");
        let what = FetchWhat::Http { url, accept: "text/plain", timeout_header: "1" };
        Output::Fetch { fetch: FetchId(1), target: 1, what, timeout_ms: 5_000 }
    });
    machine.stops_after = Some(1);
    assert_eq!(run(&mut machine, &[]), Ended::Stopped);
    let expected = "failed Get \"http://127.0.0.1:1/me\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(machine.told, [expected]);
}
