//! Streams into machines over websockets (upstream.md section 17): raw bytes in binary messages, message borders
//! without meaning.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::lasting::Held;
use super::media;
use super::object;
use super::request::{Query, StreamName};
use super::status::Failure;
use super::tail::Tail;
use super::viewers::Viewers;
use super::{DuplexStream, StreamDialer, StreamError, StreamKind};
use crate::store::{Key, Store};
use crate::types::{kinds, streams};

/// Subprotocols that mean the same: ours and the one of upstream's own upstream.
const PROTOCOLS: [&str; 2] = ["plain.virtualization.deckhouse.io", "plain.kubevirt.io"];
/// Bytes per message.
const BUFFER: usize = 10 << 10;
/// The largest datagram, which is a message of its own.
const DATAGRAM: usize = 64 << 10;
/// Pause between pings, which keep the way open and find out that nobody is there any more.
const PING: Duration = Duration::from_secs(30);
/// Most history that a console is asked for.
const MAX_HISTORY: u64 = 4 << 20;

/// What is needed to answer.
pub struct Streams<'a> {
    /// Where machines are looked up.
    pub store: &'a Store,
    /// Who opens streams.
    pub dialer: Option<&'a dyn StreamDialer>,
    /// Who has one open.
    pub viewers: &'a Viewers,
    /// Who asks.
    pub who: &'a str,
}

impl Streams<'_> {
    /// Answers a request for a stream. Everything that can be refused is refused before the upgrade. The stream keeps
    /// `held` and ends with it.
    ///
    /// # Errors
    /// 404 for a machine that does not exist, 400 when it is not a websocket or the machine is not running yet, 500
    /// when it will not work.
    pub async fn open(
        &self,
        namespace: &str,
        name: &str,
        stream: StreamName,
        parts: &mut Parts,
        query: &Query,
        held: Held,
    ) -> Result<Response<Body>, Failure> {
        let (method, headers) = (parts.method.clone(), &parts.headers);
        if !matches!(method, Method::GET | Method::POST) {
            return Err(Failure::method_not_allowed());
        }
        let kind = kinds::find("virtualmachines").ok_or_else(Failure::no_such_path)?;
        let key = Key::new(&kind.qualified(), namespace, name);
        let machine = self.store.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
        if query.flag("probe")?.unwrap_or(false) && stream != StreamName::PortForward {
            // Unlike upstream's these are not exclusive: a probe tells who would share it, nobody is sent away.
            let session = self.viewers.probe(&object::head(&machine.bytes).uid, stream);
            return Ok(media::object_response(StatusCode::OK, &session, media::wanted(headers)?));
        }
        let kind = stream_kind(stream, query)?;
        let shape = Shape::of(kind, headers);
        let handshake = Handshake::of(headers)?;
        let dialer = self.dialer.ok_or_else(|| Failure::internal("this server opens no streams into machines"))?;
        let uid = object::head(&machine.bytes).uid;
        let line = dialer.dial(&uid, kind).await.map_err(|error| match error {
            StreamError::NotReady(text) => Failure::bad_request(text),
            StreamError::Failed(text) => Failure::internal(text),
        })?;
        let upgrade = parts
            .extensions
            .remove::<OnUpgrade>()
            .ok_or_else(|| Failure::bad_request("Upgrade request required: this connection cannot be upgraded"))?;
        let tail = parts.extensions.remove::<Tail>();
        let client = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let viewing = self.viewers.enter(&uid, stream, self.who, client);
        tokio::spawn(async move {
            serve(upgrade, line, held, shape).await;
            drop((tail, viewing));
        });
        let mut response = handshake.response();
        if shape.halves {
            response.headers_mut().insert(streams::END_HEADER, HeaderValue::from_static(streams::END));
        }
        Ok(response)
    }
}

/// How bytes are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Each side ends for itself, see [`streams`].
    halves: bool,
    /// Bytes per message.
    buffer: usize,
}

impl Shape {
    fn of(kind: StreamKind, headers: &HeaderMap) -> Self {
        let asked = headers.get(streams::END_HEADER).is_some_and(|v| v == streams::END);
        let buffer = if matches!(kind, StreamKind::PortForward { udp: true, .. }) { DATAGRAM } else { BUFFER };
        Self { halves: asked && matches!(kind, StreamKind::PortForward { udp: false, .. }), buffer }
    }
}

fn stream_kind(stream: StreamName, query: &Query) -> Result<StreamKind, Failure> {
    match stream {
        StreamName::Console => {
            let history = query.number("history")?.unwrap_or(0).min(MAX_HISTORY);
            Ok(StreamKind::Console { history: usize::try_from(history).unwrap_or(0) })
        }
        StreamName::Vnc => Ok(StreamKind::Vnc),
        StreamName::PortForward => {
            let port = query.number("port")?.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
            let port = port.ok_or_else(|| Failure::bad_request("port must be a number from 1 to 65535"))?;
            match query.get("protocol") {
                None | Some("tcp") => Ok(StreamKind::PortForward { port, udp: false }),
                Some("udp") => Ok(StreamKind::PortForward { port, udp: true }),
                Some(other) => Err(Failure::bad_request(format!("protocol {other:?} is neither tcp nor udp"))),
            }
        }
    }
}

/// A websocket request that can be granted.
#[derive(Debug, PartialEq, Eq)]
struct Handshake {
    accept: String,
    protocol: Option<&'static str>,
}

impl Handshake {
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let has = |name: header::HeaderName, word: &str| {
            let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
            values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
        };
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        let (Some(key), true) = (key, has(header::SEC_WEBSOCKET_VERSION, "13")) else {
            return Err(Failure::bad_request("Upgrade request required: version 13 of the websocket protocol"));
        };
        let offered = headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        let protocol = PROTOCOLS.into_iter().find(|p| has(header::SEC_WEBSOCKET_PROTOCOL, p));
        if offered && protocol.is_none() {
            return Err(Failure::bad_request(format!("the websocket subprotocol must be {}", PROTOCOLS[0])));
        }
        Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol })
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// Why a stream ends.
enum End {
    /// The machine's side is through.
    Machine,
    /// The machine's side has failed, in both directions.
    Broken,
    /// The client said so, or is gone.
    Client,
    /// The server stops, or the client's token ended.
    Over,
}

async fn serve(upgrade: OnUpgrade, line: Box<dyn DuplexStream>, held: Held, shape: Shape) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => return tracing::debug!(%error, "a stream was not taken up"),
    };
    carry(upgraded, line, &held.life(), shape).await;
}

/// Carries bytes between a client's websocket and a machine until one of them is through, and says goodbye.
async fn carry<S>(upgraded: S, line: Box<dyn DuplexStream>, life: &CancellationToken, shape: Shape)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().max_message_size(Some(1 << 20)).max_frame_size(Some(1 << 20));
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
    let (mut sink, source) = socket.split();
    let (from_machine, to_machine) = tokio::io::split(line);
    // Set when the client has said all that it has to say; without halves it never is.
    let said = CancellationToken::new();
    let end = {
        let outward = outward(from_machine, &mut sink, shape);
        let inward = inward(source, to_machine, shape, &said);
        tokio::pin!(inward);
        tokio::select! {
            end = outward => match end {
                End::Machine if shape.halves => tokio::select! {
                    () = said.cancelled() => End::Machine,
                    end = &mut inward => end,
                    () = life.cancelled() => End::Over,
                },
                end => end,
            },
            end = &mut inward => end,
            () = life.cancelled() => End::Over,
        }
    };
    let frame = match end {
        End::Client => None,
        End::Machine | End::Broken => Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }),
        // Not "going away": clients take that for somebody else having taken the stream over.
        End::Over => Some(CloseFrame {
            code: CloseCode::Restart,
            reason: "the server is stopping, or the right to be here has ended".into(),
        }),
    };
    // The client may be gone already.
    tokio::time::timeout(Duration::from_secs(2), sink.send(Message::Close(frame))).await.ok();
}

async fn outward<S>(
    mut from: ReadHalf<Box<dyn DuplexStream>>,
    to: &mut SplitSink<WebSocketStream<S>, Message>,
    shape: Shape,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; shape.buffer];
    loop {
        let message = match tokio::time::timeout(PING, from.read(&mut buffer)).await {
            Ok(Ok(0)) if shape.halves => {
                let told = to.send(Message::text(streams::END)).await;
                return if told.is_ok() { End::Machine } else { End::Client };
            }
            Ok(Ok(0)) => return End::Machine,
            Ok(Err(_)) => return End::Broken,
            Ok(Ok(count)) => Message::Binary(Bytes::copy_from_slice(&buffer[..count])),
            Err(_) => Message::Ping(Bytes::new()),
        };
        if to.send(message).await.is_err() {
            return End::Client;
        }
    }
}

async fn inward<S>(
    mut from: SplitStream<WebSocketStream<S>>,
    mut to: WriteHalf<Box<dyn DuplexStream>>,
    shape: Shape,
    said: &CancellationToken,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match from.next().await {
            // The machine takes no more, but may still have something to say.
            Some(Ok(Message::Binary(_))) if said.is_cancelled() => {}
            Some(Ok(Message::Binary(data))) => {
                if to.write_all(&data).await.is_err() || to.flush().await.is_err() {
                    if !shape.halves {
                        return End::Machine;
                    }
                    said.cancel();
                }
            }
            Some(Ok(Message::Text(word))) if shape.halves && word.as_str() == streams::END => {
                // A machine that is gone is told by its own end.
                let _ = to.shutdown().await;
                said.cancel();
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Client,
            Some(Ok(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (header::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn handshakes() {
        let base = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |extra: &[(&'static str, &str)]| Handshake::of(&headers(&[&base[..], extra].concat()));
        let granted = with(&[]).unwrap();
        assert_eq!((granted.accept.as_str(), granted.protocol), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", None));
        for (offer, want) in [
            ("plain.virtualization.deckhouse.io", Some(PROTOCOLS[0])),
            ("v5.channel.k8s.io, plain.kubevirt.io", Some(PROTOCOLS[1])),
            ("v5.channel.k8s.io", None),
        ] {
            let got = with(&[("sec-websocket-protocol", offer)]);
            assert_eq!(got.map(|h| h.protocol).ok().flatten(), want, "{offer}");
        }
        for missing in 0..base.len() {
            let mut some = base.to_vec();
            some.remove(missing);
            assert_eq!(Handshake::of(&headers(&some)).unwrap_err().code(), 400);
        }
    }

    #[test]
    fn which_stream() {
        let read = |stream, query: &str| {
            let uri = format!("/x?{query}").parse().unwrap();
            stream_kind(stream, &Query::of(&uri).unwrap()).map_err(|f| f.code().as_u16())
        };
        use StreamName::{Console, PortForward};
        assert_eq!(read(Console, ""), Ok(StreamKind::Console { history: 0 }));
        assert_eq!(read(Console, "history=99999999999"), Ok(StreamKind::Console { history: 4 << 20 }));
        assert_eq!(read(PortForward, "port=22"), Ok(StreamKind::PortForward { port: 22, udp: false }));
        assert_eq!(read(PortForward, "port=53&protocol=udp"), Ok(StreamKind::PortForward { port: 53, udp: true }));
        for query in ["", "port=0", "port=65536", "port=22&protocol=sctp"] {
            assert_eq!(read(PortForward, query), Err(400), "{query}");
        }
    }
}
