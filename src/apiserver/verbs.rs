//! From a method on a collection or an object to what does it.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response};

use super::request::{Collection, Part, Query};
use super::status::Failure;
use super::{Api, delete, media, read, take, write};

impl Api {
    pub(super) async fn collection(
        &self,
        collection: &Collection,
        parts: &Parts,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let wanted = media::wanted(&parts.headers)?;
        match parts.method {
            Method::GET | Method::HEAD => read::list(&self.store, collection, query, wanted).await,
            Method::POST => {
                let body = &take(body).await?;
                let headers = &parts.headers;
                write::Call { api: self, collection, query, headers, body, wanted }.create().await
            }
            Method::DELETE => {
                let body = take(body).await?;
                let options = delete::DeleteOptions::of(query, &parts.headers, &body)?;
                delete::many(&self.store, collection, &options, query, wanted).await
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    pub(super) async fn object(
        &self,
        collection: &Collection,
        name: &str,
        part: Part,
        parts: &Parts,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let wanted = media::wanted(&parts.headers)?;
        let headers = &parts.headers;
        match (&parts.method, part) {
            (&Method::GET | &Method::HEAD, Part::Main | Part::Status) => {
                read::get(&self.store, collection, name, query, wanted).await
            }
            (&Method::PUT, _) => {
                let body = &take(body).await?;
                write::Call { api: self, collection, query, headers, body, wanted }.update(name, part).await
            }
            (&Method::PATCH, Part::Main | Part::Status) => {
                let body = &take(body).await?;
                write::Call { api: self, collection, query, headers, body, wanted }.patch(name, part).await
            }
            (&Method::DELETE, Part::Main) => {
                let body = take(body).await?;
                let options = delete::DeleteOptions::of(query, headers, &body)?;
                delete::one(&self.store, collection, name, &options, query, wanted).await
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }
}
