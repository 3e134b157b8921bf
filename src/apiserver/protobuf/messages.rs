//! Field tables of the messages that clients send: number, JSON name, shape. Numbers are those of Kubernetes'
//! `generated.proto`; fields not listed are skipped.

/// How a field is decoded.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text; empty = absent.
    Text,
    /// A text that may be empty.
    TextPointer,
    /// Several texts.
    Texts,
    /// A number; 0 = absent.
    Integer,
    /// A number that may be 0.
    IntegerPointer,
    /// A flag.
    BoolPointer,
    /// A time with this many digits after the second.
    Time(u8),
    /// `map<string, string>`.
    TextMap,
    /// `map<string, bytes>`, base64 in JSON.
    BytesMap,
    /// A message whose first field is JSON text.
    Json,
    /// A message.
    Message(&'static [Field]),
    /// Several messages.
    Messages(&'static [Field]),
}

/// Digits of a MicroTime.
pub const MICRO_TIME: u8 = 6;
const TIME: Shape = Shape::Time(0);
const MICRO: Shape = Shape::Time(MICRO_TIME);

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub number: u64,
    pub name: &'static str,
    pub shape: Shape,
}

const fn f(number: u64, name: &'static str, shape: Shape) -> Field {
    Field { number, name, shape }
}

/// The message of a kind.
pub fn of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "Secret") => SECRET,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "Event") => EVENT,
        ("events.k8s.io/v1", "Event") => NEW_EVENT,
        ("coordination.k8s.io/v1", "Lease") => LEASE,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => RULES_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => SUBJECT_REVIEW,
        ("authentication.k8s.io/v1", "TokenRequest") => TOKEN_REQUEST,
        // Registered in every group version.
        (_, "DeleteOptions") => DELETE_OPTIONS,
        _ => return None,
    })
}

const METADATA: Shape = Shape::Message(&[
    f(1, "name", Shape::Text),
    f(2, "generateName", Shape::Text),
    f(3, "namespace", Shape::Text),
    f(4, "selfLink", Shape::Text),
    f(5, "uid", Shape::Text),
    f(6, "resourceVersion", Shape::Text),
    f(7, "generation", Shape::Integer),
    f(8, "creationTimestamp", TIME),
    f(9, "deletionTimestamp", TIME),
    f(10, "deletionGracePeriodSeconds", Shape::IntegerPointer),
    f(11, "labels", Shape::TextMap),
    f(12, "annotations", Shape::TextMap),
    f(13, "ownerReferences", Shape::Messages(OWNER)),
    f(14, "finalizers", Shape::Texts),
    f(17, "managedFields", Shape::Messages(MANAGED)),
]);

const OWNER: &[Field] = &[
    f(5, "apiVersion", Shape::Text),
    f(1, "kind", Shape::Text),
    f(3, "name", Shape::Text),
    f(4, "uid", Shape::Text),
    f(6, "controller", Shape::BoolPointer),
    f(7, "blockOwnerDeletion", Shape::BoolPointer),
];

const MANAGED: &[Field] = &[
    f(1, "manager", Shape::Text),
    f(2, "operation", Shape::Text),
    f(3, "apiVersion", Shape::Text),
    f(4, "time", TIME),
    f(6, "fieldsType", Shape::Text),
    f(7, "fieldsV1", Shape::Json),
    f(8, "subresource", Shape::Text),
];

const NAMESPACE: &[Field] = &[
    f(1, "metadata", METADATA),
    f(2, "spec", Shape::Message(&[f(1, "finalizers", Shape::Texts)])),
    f(3, "status", Shape::Message(&[f(1, "phase", Shape::Text)])),
];

const SECRET: &[Field] = &[
    f(1, "metadata", METADATA),
    f(2, "data", Shape::BytesMap),
    f(3, "type", Shape::Text),
    f(4, "stringData", Shape::TextMap),
    f(5, "immutable", Shape::BoolPointer),
];

const CONFIG_MAP: &[Field] = &[
    f(1, "metadata", METADATA),
    f(2, "data", Shape::TextMap),
    f(3, "binaryData", Shape::BytesMap),
    f(4, "immutable", Shape::BoolPointer),
];

const REFERENCE: Shape = Shape::Message(&[
    f(1, "kind", Shape::Text),
    f(2, "namespace", Shape::Text),
    f(3, "name", Shape::Text),
    f(4, "uid", Shape::Text),
    f(5, "apiVersion", Shape::Text),
    f(6, "resourceVersion", Shape::Text),
    f(7, "fieldPath", Shape::Text),
]);

const SOURCE: Shape = Shape::Message(&[f(1, "component", Shape::Text), f(2, "host", Shape::Text)]);

const SERIES: Shape = Shape::Message(&[f(1, "count", Shape::Integer), f(2, "lastObservedTime", MICRO)]);

const EVENT: &[Field] = &[
    f(1, "metadata", METADATA),
    f(2, "involvedObject", REFERENCE),
    f(3, "reason", Shape::Text),
    f(4, "message", Shape::Text),
    f(5, "source", SOURCE),
    f(6, "firstTimestamp", TIME),
    f(7, "lastTimestamp", TIME),
    f(8, "count", Shape::Integer),
    f(9, "type", Shape::Text),
    f(10, "eventTime", MICRO),
    f(11, "series", SERIES),
    f(12, "action", Shape::Text),
    f(13, "related", REFERENCE),
    f(14, "reportingComponent", Shape::Text),
    f(15, "reportingInstance", Shape::Text),
];

const NEW_EVENT: &[Field] = &[
    f(1, "metadata", METADATA),
    f(2, "eventTime", MICRO),
    f(3, "series", SERIES),
    f(4, "reportingController", Shape::Text),
    f(5, "reportingInstance", Shape::Text),
    f(6, "action", Shape::Text),
    f(7, "reason", Shape::Text),
    f(8, "regarding", REFERENCE),
    f(9, "related", REFERENCE),
    f(10, "note", Shape::Text),
    f(11, "type", Shape::Text),
    f(12, "deprecatedSource", SOURCE),
    f(13, "deprecatedFirstTimestamp", TIME),
    f(14, "deprecatedLastTimestamp", TIME),
    f(15, "deprecatedCount", Shape::Integer),
];

const LEASE: &[Field] = &[
    f(1, "metadata", METADATA),
    f(
        2,
        "spec",
        Shape::Message(&[
            f(1, "holderIdentity", Shape::TextPointer),
            f(2, "leaseDurationSeconds", Shape::IntegerPointer),
            f(3, "acquireTime", MICRO),
            f(4, "renewTime", MICRO),
            f(5, "leaseTransitions", Shape::IntegerPointer),
            f(6, "strategy", Shape::TextPointer),
            f(7, "preferredHolder", Shape::TextPointer),
        ]),
    ),
];

const ACCESS_REVIEW: &[Field] = &[
    f(1, "metadata", METADATA),
    f(
        2,
        "spec",
        Shape::Message(&[
            f(
                1,
                "resourceAttributes",
                Shape::Message(&[
                    f(1, "namespace", Shape::Text),
                    f(2, "verb", Shape::Text),
                    f(3, "group", Shape::Text),
                    f(4, "version", Shape::Text),
                    f(5, "resource", Shape::Text),
                    f(6, "subresource", Shape::Text),
                    f(7, "name", Shape::Text),
                ]),
            ),
            f(2, "nonResourceAttributes", Shape::Message(&[f(1, "path", Shape::Text), f(2, "verb", Shape::Text)])),
        ]),
    ),
];

const RULES_REVIEW: &[Field] =
    &[f(1, "metadata", METADATA), f(2, "spec", Shape::Message(&[f(1, "namespace", Shape::Text)]))];

const SUBJECT_REVIEW: &[Field] = &[f(1, "metadata", METADATA)];

const TOKEN_REQUEST: &[Field] = &[
    f(1, "metadata", METADATA),
    f(
        2,
        "spec",
        Shape::Message(&[
            f(1, "audiences", Shape::Texts),
            f(
                3,
                "boundObjectRef",
                Shape::Message(&[
                    f(1, "kind", Shape::Text),
                    f(2, "apiVersion", Shape::Text),
                    f(3, "name", Shape::Text),
                    f(4, "uid", Shape::Text),
                ]),
            ),
            f(4, "expirationSeconds", Shape::IntegerPointer),
        ]),
    ),
];

const DELETE_OPTIONS: &[Field] = &[
    f(1, "gracePeriodSeconds", Shape::IntegerPointer),
    f(
        2,
        "preconditions",
        Shape::Message(&[f(1, "uid", Shape::TextPointer), f(2, "resourceVersion", Shape::TextPointer)]),
    ),
    f(3, "orphanDependents", Shape::BoolPointer),
    f(4, "propagationPolicy", Shape::TextPointer),
    f(5, "dryRun", Shape::Texts),
];
