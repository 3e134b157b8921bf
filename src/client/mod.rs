//! The viewer's side of any API, local or remote: everything is a Kubernetes request.
