//! A webhook's end: keeps what an Alertmanager tells.

use serde_json::Value as Json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Serves until the test program ends; its port is its own.
pub struct Sink {
    pub port: u16,
    messages: Arc<Mutex<Vec<Json>>>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has free ports");
        let port = listener.local_addr().expect("bound").port();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&messages);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(message) = serve(&stream) {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                }
            }
        });
        Self { port, messages }
    }

    /// All alerts told so far, one per message and alert, in order.
    pub fn alerts(&self) -> Vec<Json> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().flat_map(|message| message["alerts"].as_array().cloned().unwrap_or_default()).collect()
    }
}

/// Reads one POST with a length and answers it. `None`: it was something else.
fn serve(mut stream: &TcpStream) -> Option<Json> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    serde_json::from_slice(&body).ok()
}
