//! Downloads: streamed to a file, resumed where they broke off, checked.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Response, StatusCode};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::host::VolumeFailure;
use crate::host::room::Room;
use crate::host::volume_job::Failure;

pub(super) mod checks;

pub(super) use checks::Checks;

/// Attempts without a single new byte.
pub(super) const ATTEMPTS: u32 = 5;

/// Pause before the second attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that brings nothing for so long is dead.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after so many attempts in a row that brought nothing.
pub(super) fn pause(fruitless: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(fruitless.min(6))
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// Trying again may help.
    Again(String),
    /// It will not.
    Final(Failure),
    /// The server wants to know who asks; its answer's headers say how.
    Unauthorized(Box<HeaderMap>),
}

impl Broken {
    /// Of a request that got no answer.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let words = chain(error);
        // A malformed address stays malformed, a stranger's certificate stays strange.
        if error.is_builder() || error.is_redirect() {
            return Self::Final(Failure { kind: VolumeFailure::Source, detail: words });
        }
        if words.contains("certificate") {
            let detail =
                format!("{words}; if the server's certificate is from an authority of your own, give that in caBundle");
            return Self::Final(Failure { kind: VolumeFailure::Source, detail });
        }
        Self::Again(words)
    }

    /// Of an answer that is no success.
    pub(super) fn status(response: &Response) -> Self {
        let status = response.status();
        let words = format!("the server answered {status}");
        let passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::RANGE_NOT_SATISFIABLE
            );
        if passing {
            return Self::Again(words);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Self::Unauthorized(Box::new(response.headers().clone()));
        }
        Self::Final(Failure { kind: VolumeFailure::Source, detail: words })
    }
}

/// Bytes so far and all bytes, if known.
pub(super) type Progress<'a> = &'a mut (dyn FnMut(u64, Option<u64>) + Send);

/// A file in the making.
pub(super) struct Transfer {
    path: PathBuf,
    file: tokio::fs::File,
    done: u64,
    /// Names the version that the bytes so far are of.
    validator: Option<String>,
    /// What is behind the address never changes, since the address is its checksum.
    pub(super) immutable: bool,
    /// Bytes that it must have.
    pub(super) length: Option<u64>,
    checks: Checks,
    fruitless: u32,
    room: Room,
}

impl Transfer {
    /// Into this file, which is made.
    pub(super) async fn into_file(path: &Path, checks: Checks) -> Result<Self, Failure> {
        let file = tokio::fs::File::create(path).await.map_err(|error| stored(&error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            done: 0,
            validator: None,
            immutable: false,
            length: None,
            checks,
            fruitless: 0,
            room: Room::default(),
        })
    }

    /// Downloads what is missing, over as many connections as it takes.
    pub(super) async fn run(
        &mut self,
        client: &reqwest::Client,
        url: &str,
        authorization: Option<&HeaderValue>,
        progress: Progress<'_>,
    ) -> Result<(), Broken> {
        loop {
            let before = self.done;
            match self.attempt(client, url, authorization, progress).await {
                Ok(()) => return Ok(()),
                Err(Broken::Again(words)) => {
                    self.fruitless = if self.done > before { 0 } else { self.fruitless + 1 };
                    if self.fruitless >= ATTEMPTS {
                        let failure = Failure { kind: VolumeFailure::Source, detail: words };
                        return Err(Broken::Final(failure));
                    }
                    tracing::info!(%words, done = self.done, "download broke off; tries again");
                    tokio::time::sleep(pause(self.fruitless)).await;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// The file is complete: checks it.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        self.file.flush().await.map_err(|error| stored(&error))?;
        self.checks.finish()
    }

    /// One request.
    async fn attempt(
        &mut self,
        client: &reqwest::Client,
        url: &str,
        authorization: Option<&HeaderValue>,
        progress: Progress<'_>,
    ) -> Result<(), Broken> {
        let mut request = client.get(url);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if self.done > 0 && self.immutable {
            request = request.header(RANGE, format!("bytes={}-", self.done));
        } else if let Some(validator) = self.validator.as_ref().filter(|_| self.done > 0) {
            request = request.header(RANGE, format!("bytes={}-", self.done)).header(IF_RANGE, validator);
        }
        let response = request.send().await.map_err(|error| Broken::of(&error))?;
        if !response.status().is_success() {
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                (self.validator, self.immutable) = (None, false);
            }
            return Err(Broken::status(&response));
        }
        if !continues(&response, self.done) {
            self.begin_anew().await.map_err(Broken::Final)?;
        }
        self.validator = version(response.headers());
        let total = response.content_length().map(|rest| self.done + rest);
        let too_long = |length: u64| {
            let detail = format!("the server sends {length} bytes where {} were announced", self.length.unwrap_or(0));
            Broken::Final(Failure { kind: VolumeFailure::Source, detail })
        };
        if let (Some(total), Some(length)) = (total, self.length)
            && total > length
        {
            return Err(too_long(total));
        }
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Broken::Again(format!("the download broke off: {}", chain(&error))))?;
            let done = self.done + chunk.len() as u64;
            if self.length.is_some_and(|length| done > length) {
                return Err(too_long(done));
            }
            self.room.take(&self.path, chunk.len()).map_err(Broken::Final)?;
            self.file.write_all(&chunk).await.map_err(|error| Broken::Final(stored(&error)))?;
            self.checks.update(&chunk);
            self.done = done;
            progress(self.done, total.or(self.length));
        }
        match total.into_iter().chain(self.length).max() {
            Some(total) if self.done < total => {
                Err(Broken::Again(format!("the download broke off after {} of {total} bytes", self.done)))
            }
            _ => Ok(()),
        }
    }

    async fn begin_anew(&mut self) -> Result<(), Failure> {
        self.done = 0;
        self.file.set_len(0).await.map_err(|error| stored(&error))?;
        self.file.seek(io::SeekFrom::Start(0)).await.map_err(|error| stored(&error))?;
        self.checks.restart()
    }
}

/// Downloads `url` into `file`. `ca_bundle`: further certificate authorities, PEM.
pub(super) async fn download(
    url: &str,
    ca_bundle: Option<&[u8]>,
    file: &Path,
    checks: Checks,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let client = client(ca_bundle)?;
    let mut transfer = Transfer::into_file(file, checks).await?;
    match transfer.run(&client, url, None, progress).await {
        Ok(()) => transfer.finish().await,
        Err(Broken::Final(failure)) => Err(failure),
        Err(Broken::Again(detail)) => Err(Failure { kind: VolumeFailure::Source, detail }),
        Err(Broken::Unauthorized(_)) => {
            let detail = "the server answered 401 Unauthorized; put user and password into the URL, if it takes them";
            Err(Failure { kind: VolumeFailure::Source, detail: detail.into() })
        }
    }
}

fn stored(error: &io::Error) -> Failure {
    Failure::io("cannot store the download", error)
}

/// A client that trusts the system's authorities and those of `ca_bundle` (PEM).
pub(super) fn client(ca_bundle: Option<&[u8]>) -> Result<reqwest::Client, Failure> {
    let refused = |detail: String| Failure { kind: VolumeFailure::Source, detail };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("vmdeck/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    if let Some(bundle) = ca_bundle {
        let certificates = reqwest::Certificate::from_pem_bundle(bundle)
            .map_err(|error| refused(format!("caBundle holds no readable certificates: {}", chain(&error))))?;
        if certificates.is_empty() {
            return Err(refused("caBundle holds no certificates".into()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| refused(format!("cannot set up the download: {}", chain(&error))))
}

/// The answer goes on where the file ends.
fn continues(response: &Response, done: u64) -> bool {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return false;
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok()) == Some(done)
}

/// What names this version of the content; `None` if the server cannot continue it.
fn version(headers: &HeaderMap) -> Option<String> {
    if headers.get(ACCEPT_RANGES).is_some_and(|value| value == "none") {
        return None;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // A weak tag does not promise the same bytes.
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
