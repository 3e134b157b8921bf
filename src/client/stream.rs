//! Byte streams into machines over websockets: console, VNC, forwarded ports.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, handshake};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Session;
use super::error::{ClientError, ErrorKind, printable};
use super::request::{checked, escape, with_query};
use crate::types::kinds::{SUBRESOURCES_GROUP, VERSION};
use crate::types::streams;

/// The websocket subprotocol: raw bytes in binary messages.
const PROTOCOL: &str = "plain.virtualization.deckhouse.io";

/// Bytes of one message; the upstream server's buffer.
const CHUNK: usize = 10 * 1024;

/// Bytes that may wait between the websocket and its user.
const PIPE: usize = 64 * 1024;

/// Why no stream could be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsoleError {
    /// No such machine.
    #[error("{0}")]
    NotFound(ClientError),
    /// The machine is not there yet (HTTP 400): try again.
    #[error("{0}")]
    NotReady(ClientError),
    /// It does not work.
    #[error("{0}")]
    Failed(ClientError),
}

impl From<ClientError> for ConsoleError {
    fn from(error: ClientError) -> Self {
        match error.code() {
            404 => Self::NotFound(error),
            400 => Self::NotReady(error),
            _ => Self::Failed(error),
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// The server says there is no more.
    Ended,
    /// Somebody else took the session.
    TakenOver,
    /// The connection broke: connect again. The text is printable.
    Lost(String),
}

/// A machine's serial line.
#[derive(Debug)]
pub struct ConsoleStream {
    /// To the guest. Closing it closes the stream.
    pub input: mpsc::Sender<Bytes>,
    /// From the guest; ends with the stream.
    pub output: mpsc::Receiver<Bytes>,
    /// Tells why, once the stream has ended.
    pub closed: oneshot::Receiver<StreamEnd>,
}

/// One connection to a port of a machine. Either direction can end before the other where the server knows how
/// ([`streams`]); dropping it ends both.
#[derive(Debug)]
pub struct PortStream {
    bytes: DuplexStream,
    _left: DropGuard,
}

impl AsyncRead for PortStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buf)
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

impl Session {
    /// Opens a machine's serial console. At most `history` bytes from before come first (0 = none; only a vmdeck
    /// host knows it, a cluster ignores it).
    pub async fn console(&self, namespace: &str, name: &str, history: usize) -> Result<ConsoleStream, ConsoleError> {
        let history = (history > 0).then(|| history.to_string());
        let socket = self.stream(namespace, name, "console", &[("history", history.as_deref())]).await?;
        Ok(messages(socket.0))
    }

    /// Opens a UDP association with a port of a machine: each message is a datagram.
    pub async fn datagrams(&self, namespace: &str, name: &str, port: u16) -> Result<ConsoleStream, ConsoleError> {
        let port = port.to_string();
        let query = [("port", Some(port.as_str())), ("protocol", Some("udp"))];
        Ok(messages(self.stream(namespace, name, "portforward", &query).await?.0))
    }

    /// Opens a machine's screen: RFB bytes.
    pub async fn vnc(&self, namespace: &str, name: &str) -> Result<DuplexStream, ConsoleError> {
        let (socket, _) = self.stream(namespace, name, "vnc", &[]).await?;
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(carry(socket, far, false, CancellationToken::new()));
        Ok(near)
    }

    /// Opens one TCP connection to a port of a machine.
    pub async fn port_forward(&self, namespace: &str, name: &str, port: u16) -> Result<PortStream, ConsoleError> {
        let port = port.to_string();
        let query = [("port", Some(port.as_str())), ("protocol", Some("tcp"))];
        let (socket, halves) = self.stream(namespace, name, "portforward", &query).await?;
        let (bytes, far) = tokio::io::duplex(PIPE);
        let left = CancellationToken::new();
        tokio::spawn(carry(socket, far, halves, left.clone()));
        Ok(PortStream { bytes, _left: left.drop_guard() })
    }

    /// Opens a websocket; also tells whether each side of it can end for itself.
    async fn stream(
        &self,
        namespace: &str,
        name: &str,
        sub: &str,
        query: &[(&str, Option<&str>)],
    ) -> Result<(Socket, bool), ClientError> {
        let path = format!(
            "/apis/{SUBRESOURCES_GROUP}/{VERSION}/namespaces/{}/virtualmachines/{}/{sub}",
            escape(namespace),
            escape(name)
        );
        let key = handshake::client::generate_key();
        let request = Request::get(with_query(&path, query))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
            .header(streams::END_HEADER, streams::END)
            .body(Body::empty())
            .map_err(|e| ClientError::new(ErrorKind::BadRequest, e.to_string()))?;
        let response = checked(self.requester().raw(request).await?).await?;
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).and_then(|v| v.to_str().ok());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS
            || accepted != Some(handshake::derive_accept_key(key.as_bytes()).as_str())
        {
            let text = format!("the server does not open a stream for {sub} (HTTP {})", response.status().as_u16());
            return Err(ClientError::new(ErrorKind::Protocol, text));
        }
        let halves = response.headers().get(streams::END_HEADER).is_some_and(|v| v == streams::END);
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|e| ClientError::new(ErrorKind::Unreachable, format!("the connection broke: {e}")))?;
        Ok((WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await, halves))
    }
}

/// What one message means: bytes, the end, or nothing.
fn read_message(
    message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
) -> Result<Option<Bytes>, StreamEnd> {
    match message {
        None => Err(StreamEnd::Lost("the connection was closed without a word".into())),
        Some(Err(e)) => Err(StreamEnd::Lost(printable(&e.to_string()))),
        Some(Ok(Message::Binary(data))) => Ok(Some(data)),
        Some(Ok(Message::Close(frame))) => Err(match frame {
            Some(CloseFrame { code: CloseCode::Normal, .. }) | None => StreamEnd::Ended,
            Some(CloseFrame { code: CloseCode::Away, .. }) => StreamEnd::TakenOver,
            Some(CloseFrame { code, reason }) => StreamEnd::Lost(printable(&format!("{code} {reason}"))),
        }),
        Some(Ok(_)) => Ok(None),
    }
}

async fn pump_channels(socket: Socket, mut input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Bytes>) -> StreamEnd {
    let (mut sink, mut source) = socket.split();
    loop {
        tokio::select! {
            message = source.next() => match read_message(message) {
                Err(end) => return end,
                Ok(None) => {}
                Ok(Some(data)) => {
                    // Waiting for the consumer must not keep input from going out.
                    let mut sending = std::pin::pin!(output.send(data));
                    loop {
                        tokio::select! {
                            sent = &mut sending => match sent {
                                Ok(()) => break,
                                Err(_) => return StreamEnd::Ended,
                            },
                            Some(data) = input.recv() => {
                                if let Err(e) = sink.send(Message::Binary(data)).await {
                                    return StreamEnd::Lost(printable(&e.to_string()));
                                }
                            }
                        }
                    }
                }
            },
            data = input.recv() => {
                let sent = match data {
                    Some(data) => sink.send(Message::Binary(data)).await,
                    None => {
                        // We leave: a failing goodbye changes nothing.
                        let _ = sink.send(Message::Close(None)).await;
                        return StreamEnd::Ended;
                    }
                };
                if let Err(e) = sent {
                    return StreamEnd::Lost(printable(&e.to_string()));
                }
            }
        }
    }
}

/// A websocket as channels of messages.
fn messages(socket: Socket) -> ConsoleStream {
    let (input, to_guest) = mpsc::channel(64);
    let (from_guest, output) = mpsc::channel(64);
    let (end, closed) = oneshot::channel();
    tokio::spawn(async move {
        // A consumer may not care why.
        let _ = end.send(pump_channels(socket, to_guest, from_guest).await);
    });
    ConsoleStream { input, output, closed }
}

/// Carries bytes between a websocket and a byte stream until the server says goodbye, or `left` tells that nobody is
/// there to read. With `halves` the end of our input is said and answers may still come; without, it is the goodbye.
async fn carry<S>(socket: WebSocketStream<S>, far: DuplexStream, halves: bool, left: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_near, mut to_near) = tokio::io::split(far);
    let (mut sink, mut source) = socket.split();
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from_near.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                        return;
                    }
                }
            }
        }
        if halves && !left.is_cancelled() && sink.send(Message::text(streams::END)).await.is_ok() {
            left.cancelled().await;
        }
        // A failing goodbye changes nothing.
        let _ = sink.send(Message::Close(None)).await;
    };
    let inward = async {
        loop {
            match source.next().await {
                Some(Ok(Message::Text(word))) if halves && word.as_str() == streams::END => {
                    // The end of what we read; what we say may still be wanted.
                    let _ = to_near.shutdown().await;
                }
                message => match read_message(message) {
                    Err(_) => break,
                    Ok(None) => {}
                    Ok(Some(data)) => {
                        if to_near.write_all(&data).await.is_err() {
                            break;
                        }
                    }
                },
            }
        }
        let _ = to_near.shutdown().await;
    };
    // When the remote side is done there is nothing left to say to it; when we are done it may still answer.
    tokio::pin!(inward);
    tokio::select! {
        () = &mut inward => {}
        () = outward => inward.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes() {
        let close = |code| Some(Ok(Message::Close(Some(CloseFrame { code, reason: "x\u{1b}".into() }))));
        assert_eq!(read_message(close(CloseCode::Normal)), Err(StreamEnd::Ended));
        assert_eq!(read_message(close(CloseCode::Away)), Err(StreamEnd::TakenOver));
        let Err(StreamEnd::Lost(text)) = read_message(close(CloseCode::Error)) else { panic!() };
        assert!(!text.contains('\u{1b}'));
        assert_eq!(read_message(Some(Ok(Message::Text("ignored".into())))), Ok(None));
    }

    #[test]
    fn http_400_means_try_again() {
        let answer = |code| ConsoleError::from(ClientError::from_answer(code, b""));
        assert!(matches!(answer(400), ConsoleError::NotReady(_)));
        assert!(matches!(answer(404), ConsoleError::NotFound(_)));
        assert!(matches!(answer(500), ConsoleError::Failed(_)));
    }
}
