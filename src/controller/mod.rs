//! Reconcilers: gather, plan (pure), act, report. They see a `kube::Client` and the `Host`, never the store.
