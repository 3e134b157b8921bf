//! What the embedded API can do, measured on the real daemon over its unix socket by a client in Rust: the rows of
//! `apibench.py` with objects of the same size. Run by `make bench`, which names a release build.
//!
//! Client and server share the computer, as they do in use.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends the run")]

#[path = "../tests/it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared with the integration tests, which use all of it and may panic"
)]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use support::World;

const OBJECTS: usize = 10_000;
const MAPS: &str = "/api/v1/namespaces/bench/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn main() {
    // `cargo test` runs benches too, to see that they build.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut world = World::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let socket = world.paths.api_socket();

    println!("{:<52} {:>14}   bar", "the API, unix socket, 1 KiB ConfigMaps", "measured");
    row("memory, idle", &mib(&world), "40 MiB");
    runtime.block_on(async {
        let mut client = Client::connect(&socket).await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}});
        assert_eq!(client.send(Method::POST, "/api/v1/namespaces", Some(&namespace)).await.0, StatusCode::CREATED);
    });
    for (clients, count, bar) in [(1, 1500, "700"), (4, 3500, "1,500"), (16, 5000, "3,000")] {
        let rate = create(&runtime, &socket, clients, count);
        row(&format!("durable creates per second, {clients} clients"), &format!("{rate:.0}"), bar);
    }
    for clients in [1, 4, 16] {
        let rate = each(&runtime, &socket, clients, 20_000, |n| (Method::GET, path(n % OBJECTS), None));
        row(&format!("gets per second, {clients} clients"), &format!("{rate:.0}"), "5,000");
    }
    for (clients, bar) in [(1, "700"), (4, "1,500"), (16, "3,000")] {
        let rate = each(&runtime, &socket, clients, 3000, move |n| {
            (Method::PATCH, path(n % OBJECTS), Some(json!({"data": {"b": format!("{clients}-{n}")}})))
        });
        row(&format!("durable merge patches per second, {clients} clients"), &format!("{rate:.0}"), bar);
    }
    for (what, query, accept, bar) in [
        ("list of 10,000", "", "application/json", "60 ms"),
        ("list of 10,000 as Table", "", TABLE, "120 ms"),
        ("label selector, 1,000 of 10,000", "?labelSelector=m%3D3", "application/json", "30 ms"),
        ("field selector, 1 of 10,000", "?fieldSelector=metadata.name%3Do000777", "application/json", "30 ms"),
    ] {
        let (time, bytes) = list(&runtime, &socket, query, accept);
        row(&format!("{what} ({:.1} MB)", bytes as f64 / 1e6), &ms(time), bar);
    }
    row("20 pages of 500", &ms(pages(&runtime, &socket)), "383 ms (reference)");
    row("memory, 10,000 objects", &mib(&world), "120 MiB");
    for (watchers, rate, bar) in [(50, 50, "5 ms"), (200, 20, "15 ms")] {
        let (median, p99, lost) = fan_out(&runtime, &socket, watchers, rate);
        let what = format!("fan-out, {rate} writes/s to {watchers} watchers: p50, p99");
        row(&what, &format!("{}, {}", ms(median), ms(p99)), bar);
        assert_eq!(lost, 0, "events were lost");
    }
    row("memory after that, peak", &format!("{}, {}", mib(&world), peak(&world)), "");

    world.ok(&["host", "stop"]);
    let started = Instant::now();
    let ready = start(&world, &runtime, &socket, started);
    row("process start to /readyz, 10,000 objects", &ms(ready), "200 ms");
    world.start_daemon();
    row("memory after restart, 10,000 objects", &mib(&world), "120 MiB");
    let deleted = runtime.block_on(async {
        let mut client = Client::connect(&socket).await;
        let started = Instant::now();
        assert_eq!(client.send(Method::DELETE, MAPS, None).await.0, StatusCode::OK);
        started.elapsed()
    });
    row("deletecollection of 10,000", &ms(deleted), "3 s");
}

fn row(what: &str, measured: &str, bar: &str) {
    println!("{what:<52} {measured:>14}   {bar}");
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn path(n: usize) -> String {
    format!("{MAPS}/o{n:06}")
}

fn status_line(world: &World, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).expect("a running daemon");
    let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("a line of /proc/PID/status");
    line.split_whitespace().find_map(|w| w.parse().ok()).expect("a number of KiB")
}

fn mib(world: &World) -> String {
    format!("{:.1} MiB", status_line(world, "VmRSS:") as f64 / 1024.0)
}

fn peak(world: &World) -> String {
    format!("{:.1} MiB", status_line(world, "VmHWM:") as f64 / 1024.0)
}

/// One connection.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("the API's socket");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> http::Response<Incoming> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, kind)
            .body(Full::from(body.map_or_else(Vec::new, |b| b.to_string().into_bytes())))
            .expect("a request");
        self.0.ready().await.expect("an open connection");
        self.0.send_request(request).await.expect("an answer")
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, usize) {
        let response = self.request(method, path, "application/json", body).await;
        let status = response.status();
        (status, drain(response).await)
    }
}

/// Reads a body to its end without keeping it; its length.
async fn drain(response: http::Response<Incoming>) -> usize {
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.expect("a whole body").data_ref().map_or(0, Bytes::len);
    }
    length
}

/// Requests per second of `clients` connections that share `count` requests.
fn each(
    runtime: &Runtime,
    socket: &Path,
    clients: usize,
    count: usize,
    request: impl Fn(usize) -> (Method, String, Option<Value>) + Send + Sync + 'static,
) -> f64 {
    let request = Arc::new(request);
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Client::connect(socket).await);
        }
        let started = Instant::now();
        let working = connections.into_iter().enumerate().map(|(first, mut client)| {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                for n in (first..count).step_by(clients) {
                    let (method, path, body) = request(n);
                    let (status, _) = client.send(method, &path, body.as_ref()).await;
                    assert!(status.is_success(), "{path}: {status}");
                }
            })
        });
        for done in working.collect::<Vec<_>>() {
            done.await.expect("a client that worked");
        }
        count as f64 / started.elapsed().as_secs_f64()
    })
}

fn create(runtime: &Runtime, socket: &Path, clients: usize, count: usize) -> f64 {
    static MADE: Mutex<usize> = Mutex::new(0);
    let first = {
        let mut made = MADE.lock();
        *made += count;
        *made - count
    };
    each(runtime, socket, clients, count, move |n| {
        let n = first + n;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("o{n:06}"), "labels": {"m": (n % 10).to_string()}},
            "data": {"a": "x".repeat(1024)},
        });
        (Method::POST, MAPS.to_owned(), Some(object))
    })
}

/// The best of five, as `apibench.py` takes the best of three.
fn list(runtime: &Runtime, socket: &Path, query: &str, accept: &str) -> (Duration, usize) {
    runtime.block_on(async {
        let mut client = Client::connect(socket).await;
        let mut best = (Duration::MAX, 0);
        for _ in 0..5 {
            let started = Instant::now();
            let response = client.request(Method::GET, &format!("{MAPS}{query}"), accept, None).await;
            assert_eq!(response.status(), StatusCode::OK);
            let length = drain(response).await;
            best = best.min((started.elapsed(), length));
        }
        best
    })
}

fn pages(runtime: &Runtime, socket: &Path) -> Duration {
    runtime.block_on(async {
        let mut client = Client::connect(socket).await;
        let started = Instant::now();
        let mut token = String::new();
        let mut seen = 0;
        loop {
            let path = format!("{MAPS}?limit=500&continue={token}");
            let response = client.request(Method::GET, &path, "application/json", None).await;
            let body = response.into_body().collect().await.expect("a page").to_bytes();
            let page: Value = serde_json::from_slice(&body).expect("JSON");
            seen += page["items"].as_array().map_or(0, Vec::len);
            match page["metadata"]["continue"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, OBJECTS);
        started.elapsed()
    })
}

/// From the writer's answer to the arrival at each watcher: median, 99th percentile, and how many never came.
fn fan_out(runtime: &Runtime, socket: &Path, watchers: usize, rate: usize) -> (Duration, Duration, usize) {
    const SECONDS: usize = 6;
    let writes = rate * SECONDS;
    runtime.block_on(async {
        let mut client = Client::connect(socket).await;
        let head = client.request(Method::GET, &format!("{MAPS}?limit=1"), "application/json", None).await;
        let body = head.into_body().collect().await.expect("a list").to_bytes();
        let first: Value = serde_json::from_slice(&body).expect("JSON");
        let from = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        let answered: Arc<Mutex<Vec<Option<Instant>>>> = Arc::new(Mutex::new(vec![None; writes]));
        let mut watching = Vec::new();
        for _ in 0..watchers {
            let mut client = Client::connect(socket).await;
            let path = format!("{MAPS}?watch=1&resourceVersion={from}&timeoutSeconds=60");
            let mut body = client.request(Method::GET, &path, "application/json", None).await.into_body();
            watching.push(tokio::spawn(async move {
                // The connection lives as long as its stream is read.
                let _client = client;
                let mut text = Vec::new();
                let mut arrived = Vec::new();
                while arrived.len() < writes {
                    let Some(Ok(frame)) = body.frame().await else { break };
                    let now = Instant::now();
                    text.extend_from_slice(frame.data_ref().map_or(&[], |d| d));
                    while let Some(end) = text.iter().position(|b| *b == b'\n') {
                        let line: Vec<u8> = text.drain(..=end).collect();
                        arrived.push((number(&line), now));
                    }
                }
                arrived
            }));
        }
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
        for n in 0..writes {
            tick.tick().await;
            let patch = json!({"data": {"n": format!("<{n}>")}});
            let (status, _) = client.send(Method::PATCH, &path(n % 100), Some(&patch)).await;
            assert_eq!(status, StatusCode::OK);
            answered.lock()[n] = Some(Instant::now());
        }
        let mut delays = Vec::new();
        for watcher in watching {
            let arrived = tokio::time::timeout(Duration::from_secs(10), watcher).await.expect("all events in 10 s");
            for (n, at) in arrived.expect("a watcher") {
                let written = answered.lock()[n].expect("every write was answered");
                delays.push(at.saturating_duration_since(written));
            }
        }
        delays.sort();
        let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
        (at(0.5), at(0.99), writes * watchers - delays.len())
    })
}

/// Which write an event shows: the number in `"n":"<123>"`.
fn number(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line);
    let found = text.split_once("\"n\":\"<").and_then(|(_, rest)| rest.split_once('>'));
    found.and_then(|(n, _)| n.parse().ok()).expect("an event of this run")
}

/// Starts the daemon and asks until it is ready.
fn start(world: &World, runtime: &Runtime, socket: &PathBuf, started: Instant) -> Duration {
    let mut command: Command = world.command(&["host", "start", "--foreground"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("a daemon");
    let ready = runtime.block_on(async {
        loop {
            if let Ok(stream) = UnixStream::connect(socket).await
                && let Ok((sender, connection)) = handshake(TokioIo::new(stream)).await
            {
                tokio::spawn(connection);
                if Client(sender).send(Method::GET, "/readyz", None).await.0 == StatusCode::OK {
                    return started.elapsed();
                }
            }
            assert!(started.elapsed() < Duration::from_secs(20), "the daemon does not get ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    world.ok(&["host", "stop"]);
    child.wait().expect("the daemon's end");
    ready
}
