//! A conversation with one registry by the OCI distribution protocol.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url};

use super::auth::{self, Challenge, Login};
use super::manifest;
use super::reference::Reference;
use crate::host::VolumeFailure;
use crate::host::fetch::{ATTEMPTS, Broken, Checks, Progress, Transfer, pause};
use crate::host::volume_job::Failure;

/// Longest answer of a token server.
const MAX_TOKEN: u64 = 1 << 20;

/// A registry, as far as one image goes.
pub(super) struct Session<'a> {
    client: reqwest::Client,
    base: String,
    image: &'a Reference,
    login: Option<Login>,
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    /// For this image. A registry on this computer may do without TLS.
    pub(super) async fn open(client: reqwest::Client, image: &'a Reference, login: Option<Login>) -> Self {
        let mut base = format!("https://{}", image.host());
        if image.is_loopback() {
            let plain = format!("http://{}", image.host());
            let tls = client.get(format!("{base}/v2/")).send().await;
            let untrusted = |error: &reqwest::Error| crate::host::fetch::chain(error).contains("certificate");
            if tls.is_err_and(|error| !untrusted(&error)) {
                base = plain;
            }
        }
        Self { client, base, image, login, authorization: None }
    }

    fn url(&self, kind: &str, version: &str) -> String {
        format!("{}/v2/{}/{kind}/{version}", self.base, self.image.repository)
    }

    /// The manifest of a tag or digest, at most [`manifest::MAX_LENGTH`] bytes.
    pub(super) async fn manifest(&mut self, version: &str, checks: Checks) -> Result<Vec<u8>, Failure> {
        let url = self.url("manifests", version);
        let accept = HeaderValue::from_static(manifest::ACCEPT);
        let mut fruitless = 0;
        let mut asked_in_vain = false;
        let text = loop {
            let mut request = self.client.get(&url).header(ACCEPT, accept.clone());
            if let Some(value) = &self.authorization {
                request = request.header(AUTHORIZATION, value);
            }
            match receive(request, manifest::MAX_LENGTH).await {
                Ok(text) => break text,
                Err(Broken::Unauthorized(headers)) if !asked_in_vain => {
                    asked_in_vain = true;
                    self.authorize(&headers).await?;
                }
                Err(Broken::Again(_)) if fruitless + 1 < ATTEMPTS => {
                    fruitless += 1;
                    tokio::time::sleep(pause(fruitless)).await;
                }
                Err(broken) => return Err(self.failure(broken)),
            }
        };
        let mut checks = checks;
        checks.update(&text);
        checks.finish()?;
        Ok(text)
    }

    /// Downloads content into a file, goes on where it breaks off, and checks it.
    pub(super) async fn blob(
        &mut self,
        digest: &str,
        mut transfer: Transfer,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let url = self.url("blobs", digest);
        let mut refused = 0;
        loop {
            match transfer.run(&self.client, &url, self.authorization.as_ref(), progress).await {
                Ok(()) => return transfer.finish().await,
                // Tokens end while a large layer is on its way.
                Err(Broken::Unauthorized(headers)) if refused < ATTEMPTS => {
                    refused += 1;
                    self.authorize(&headers).await?;
                }
                Err(broken) => return Err(self.failure(broken)),
            }
        }
    }

    /// Does what a 401 asks for.
    async fn authorize(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        match auth::challenge(headers) {
            Some(Challenge::Basic) => {
                let before = self.authorization.take();
                self.authorization = self.login.as_ref().and_then(Login::basic);
                if self.authorization.is_none() || self.authorization == before {
                    return Err(self.failure(Broken::Unauthorized(Box::default())));
                }
                Ok(())
            }
            Some(Challenge::Bearer { realm, service, scope }) => self.token(&realm, service, scope).await,
            None => Err(self.failure(Broken::Unauthorized(Box::default()))),
        }
    }

    async fn token(&mut self, realm: &str, service: Option<String>, scope: Option<String>) -> Result<(), Failure> {
        let refused = |detail: String| Failure { kind: VolumeFailure::Source, detail };
        let mut url: Url =
            realm.parse().map_err(|_| refused(format!("the registry names no usable token server: {realm:?}")))?;
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.image.repository));
        let fields = service.iter().map(|service| ("service", service.as_str())).chain([("scope", scope.as_str())]);
        if self.login.is_some() && !auth::may_send(&url, self.image.is_loopback()) {
            return Err(refused(format!(
                "the token server {realm:?} is not reached by TLS: no password is sent there"
            )));
        }
        let request = match &self.login {
            Some(Login::Identity(token)) => {
                let more = [("grant_type", "refresh_token"), ("client_id", "vmdeck"), ("refresh_token", token)];
                // An address' query has the form of a form.
                let mut form = Url::parse("http://form/").map_err(|error| refused(error.to_string()))?;
                form.query_pairs_mut().extend_pairs(fields.chain(more));
                let form = form.query().unwrap_or_default().to_owned();
                self.client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
            login => {
                url.query_pairs_mut().extend_pairs(fields);
                let basic = login.as_ref().and_then(Login::basic);
                let request = self.client.get(url);
                match basic {
                    Some(basic) => request.header(AUTHORIZATION, basic),
                    None => request,
                }
            }
        };
        let mut fruitless = 0;
        let answer = loop {
            let Some(request) = request.try_clone() else {
                return Err(refused("the token server cannot be asked".into()));
            };
            match receive(request, MAX_TOKEN).await {
                Err(Broken::Again(_)) if fruitless + 1 < ATTEMPTS => {
                    fruitless += 1;
                    tokio::time::sleep(pause(fruitless)).await;
                }
                Ok(answer) => break answer,
                Err(broken) => return Err(self.failure(broken)),
            }
        };
        let bearer = auth::bearer(&answer).ok_or_else(|| refused("the token server's answer has no token".into()))?;
        self.authorization = Some(bearer);
        Ok(())
    }

    /// In words for a user.
    fn failure(&self, broken: Broken) -> Failure {
        let source = |detail: String| Failure { kind: VolumeFailure::Source, detail };
        match broken {
            Broken::Again(detail) => Failure { kind: VolumeFailure::Source, detail },
            Broken::Unauthorized(_) if self.login.is_some() => {
                source(format!("the registry refuses the credentials of the pull secret for {}", self.image.registry))
            }
            Broken::Unauthorized(_) => source(
                "the registry wants credentials, or has no such image; name a secret of type \
                 kubernetes.io/dockerconfigjson in imagePullSecret"
                    .to_owned(),
            ),
            Broken::Final(failure) if failure.detail.starts_with("the server answered 404") => {
                source(format!("the registry has no such image ({})", failure.detail))
            }
            Broken::Final(failure) => failure,
        }
    }
}

/// A short answer.
async fn receive(request: reqwest::RequestBuilder, most: u64) -> Result<Vec<u8>, Broken> {
    let mut response: Response = request.send().await.map_err(|error| Broken::of(&error))?;
    if response.status() != StatusCode::OK {
        return Err(Broken::status(&response));
    }
    let mut text = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| Broken::Again(crate::host::fetch::chain(&error)))?;
        let Some(chunk) = chunk else { return Ok(text) };
        text.extend_from_slice(&chunk);
        if text.len() as u64 > most {
            let detail = format!("the server's answer is longer than {most} bytes");
            return Err(Broken::Final(Failure { kind: VolumeFailure::Source, detail }));
        }
    }
}
