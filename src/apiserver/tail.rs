//! What is left of a request that goes on after its answer began, a watch or a stream: its place among those of its
//! user, and the line of the audit log that tells its end.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::Response;
use futures::StreamExt as _;
use parking_lot::Mutex;

use super::audit::Ending;
use super::status::Failure;

/// Watches and streams that one user may have at once. One connection carries a thousand at most.
const MOST: usize = 2000;

/// Counts the watches and streams of each user.
#[derive(Debug, Default, Clone)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

impl Places {
    /// Takes a place for one of `user`'s.
    ///
    /// # Errors
    /// 429 when they have too many.
    pub fn take(&self, user: &str) -> Result<Place, Failure> {
        let mut counts = self.0.lock();
        let count = counts.entry(user.to_owned()).or_default();
        if *count >= MOST {
            return Err(Failure::too_many_requests());
        }
        *count += 1;
        Ok(Place { places: self.clone(), user: user.to_owned() })
    }
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    user: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.0.lock();
        match counts.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.user)),
        }
    }
}

/// Travels with a request from outside this process, in its extensions. Whoever serves what goes on keeps it until the
/// end.
#[derive(Clone, Default)]
pub struct Tail(Arc<Kept>);

#[derive(Default)]
struct Kept {
    place: OnceLock<Place>,
    ending: OnceLock<Ending>,
}

impl Tail {
    /// Keeps a place to the end.
    pub fn hold(&self, place: Place) {
        self.0.place.set(place).ok();
    }

    /// At the end the audit log is told.
    pub fn tell(&self, ending: Ending) {
        self.0.ending.set(ending).ok();
    }

    /// Keeps itself as long as the body of an answer is sent.
    pub fn along(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| {
            Body::from_stream(body.into_data_stream().inspect(move |_| {
                let _kept = &self;
            }))
        })
    }
}
