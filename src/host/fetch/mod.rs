//! Downloads: streamed to a file, resumed where they broke off, checked.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use md5::Digest;
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::host::VolumeFailure;
use crate::host::volume_job::Failure;

/// Attempts without a single new byte.
const ATTEMPTS: u32 = 5;

/// Pause before the second attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that brings nothing for so long is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A checksum in the making.
enum Hasher {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(h) => h.update(bytes),
            Self::Sha1(h) => h.update(bytes),
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    fn hex(self) -> String {
        let bytes = match self {
            Self::Md5(h) => h.finalize().to_vec(),
            Self::Sha1(h) => h.finalize().to_vec(),
            Self::Sha256(h) => h.finalize().to_vec(),
            Self::Sha512(h) => h.finalize().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Expected checksums and what has been seen so far.
pub(super) struct Checks(Vec<(String, String, Hasher)>);

impl Checks {
    /// From pairs of algorithm and hexadecimal digest.
    pub(super) fn new(expected: &[(String, String)]) -> Result<Self, Failure> {
        let mut checks = Vec::new();
        for (algorithm, hex) in expected {
            let hasher = match algorithm.as_str() {
                "md5" => Hasher::Md5(md5::Md5::new()),
                "sha1" => Hasher::Sha1(sha1::Sha1::new()),
                "sha256" => Hasher::Sha256(sha2::Sha256::new()),
                "sha512" => Hasher::Sha512(Box::new(sha2::Sha512::new())),
                other => {
                    let detail = format!("checksums of kind {other} cannot be checked here; use sha256 or sha512");
                    return Err(Failure { kind: VolumeFailure::Checksum, detail });
                }
            };
            checks.push((algorithm.clone(), hex.to_ascii_lowercase(), hasher));
        }
        Ok(Self(checks))
    }

    /// More content.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, _, hasher) in &mut self.0 {
            hasher.update(bytes);
        }
    }

    /// The content begins anew.
    fn restart(&mut self) -> Result<(), Failure> {
        let expected: Vec<_> = self.0.drain(..).map(|(algorithm, hex, _)| (algorithm, hex)).collect();
        *self = Self::new(&expected)?;
        Ok(())
    }

    /// Compares.
    pub(super) fn finish(self) -> Result<(), Failure> {
        for (algorithm, expected, hasher) in self.0 {
            let got = hasher.hex();
            if got != expected {
                let detail = format!("the {algorithm} checksum is {got}, expected {expected}");
                return Err(Failure { kind: VolumeFailure::Checksum, detail });
            }
        }
        Ok(())
    }
}

/// An attempt that failed.
enum Broken {
    /// Trying again may help.
    Again(String),
    /// It will not.
    Final(Failure),
}

/// Bytes so far and all bytes, if known.
type Progress<'a> = &'a mut (dyn FnMut(u64, Option<u64>) + Send);

/// Downloads `url` into `file`. `ca_bundle`: further certificate authorities, PEM.
pub(super) async fn download(
    url: &str,
    ca_bundle: Option<&[u8]>,
    file: &Path,
    mut checks: Checks,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let client = client(ca_bundle)?;
    let mut file = tokio::fs::File::create(file).await.map_err(|error| stored(&error))?;
    let mut done = 0_u64;
    let mut validator = None;
    let mut fruitless = 0;
    loop {
        let before = done;
        match attempt(&client, url, &mut file, &mut done, &mut validator, &mut checks, progress).await {
            Ok(()) => break,
            Err(Broken::Final(failure)) => return Err(failure),
            Err(Broken::Again(words)) => {
                fruitless = if done > before { 0 } else { fruitless + 1 };
                if fruitless >= ATTEMPTS {
                    return Err(Failure { kind: VolumeFailure::Source, detail: words });
                }
                tracing::info!(%words, done, "download broke off; tries again");
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(fruitless.min(6))).await;
            }
        }
    }
    file.flush().await.map_err(|error| stored(&error))?;
    checks.finish()
}

fn stored(error: &io::Error) -> Failure {
    Failure::io("cannot store the download", error)
}

fn client(ca_bundle: Option<&[u8]>) -> Result<reqwest::Client, Failure> {
    let refused = |detail: String| Failure { kind: VolumeFailure::Source, detail };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("vmdeck/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    if let Some(bundle) = ca_bundle {
        let certificates = reqwest::Certificate::from_pem_bundle(bundle)
            .map_err(|error| refused(format!("caBundle holds no readable certificates: {}", chain(&error))))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| refused(format!("cannot set up the download: {}", chain(&error))))
}

/// One request. `done` bytes are in the file; `validator` names the version they are of.
async fn attempt(
    client: &reqwest::Client,
    url: &str,
    file: &mut tokio::fs::File,
    done: &mut u64,
    validator: &mut Option<String>,
    checks: &mut Checks,
    progress: Progress<'_>,
) -> Result<(), Broken> {
    let mut request = client.get(url);
    if let Some(validator) = validator.as_ref().filter(|_| *done > 0) {
        request = request.header(RANGE, format!("bytes={done}-")).header(IF_RANGE, validator);
    }
    let response = request.send().await.map_err(|error| {
        let words = chain(&error);
        // A malformed address stays malformed, a stranger's certificate stays strange.
        if error.is_builder() || error.is_redirect() || words.contains("certificate") {
            Broken::Final(Failure { kind: VolumeFailure::Source, detail: words })
        } else {
            Broken::Again(words)
        }
    })?;
    let status = response.status();
    if !status.is_success() {
        let words = format!("the server answered {status}");
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            *validator = None;
            return Err(Broken::Again(words));
        }
        let failure = Failure { kind: VolumeFailure::Source, detail: words.clone() };
        return Err(if passing { Broken::Again(words) } else { Broken::Final(failure) });
    }
    if !continues(&response, *done) {
        *done = 0;
        file.set_len(0).await.map_err(|error| Broken::Final(stored(&error)))?;
        file.seek(io::SeekFrom::Start(0)).await.map_err(|error| Broken::Final(stored(&error)))?;
        checks.restart().map_err(Broken::Final)?;
    }
    *validator = version(response.headers());
    let total = response.content_length().map(|rest| *done + rest);
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Broken::Again(format!("the download broke off: {}", chain(&error))))?;
        file.write_all(&chunk).await.map_err(|error| Broken::Final(stored(&error)))?;
        checks.update(&chunk);
        *done += chunk.len() as u64;
        progress(*done, total);
    }
    match total {
        Some(total) if *done < total => {
            Err(Broken::Again(format!("the download broke off after {done} of {total} bytes")))
        }
        _ => Ok(()),
    }
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
fn chain(error: &dyn std::error::Error) -> String {
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
