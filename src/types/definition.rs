//! What a derived definition lacks or has too much of, so that it says what upstream's says.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Value, json};

/// Fields of structs that kinds share, or that are Kubernetes' own, which the kind does not have.
const ABSENT: &[(&str, &str)] = &[
    ("VirtualDisk", "spec.dataSource.containerImage.imagePullSecret.namespace"),
    ("VirtualImage", "spec.dataSource.containerImage.imagePullSecret.namespace"),
    ("VirtualImage", "spec.dataSource.objectRef.namespace"),
    ("VirtualImage", "status.usedInNamespaces"),
    ("ClusterVirtualImage", "status.storageClassName"),
    ("ClusterVirtualImage", "status.target.persistentVolumeClaimName"),
    ("VirtualMachine", "spec.topologySpreadConstraints[].matchLabelKeys"),
    ("VirtualMachine", "spec.topologySpreadConstraints[].minDomains"),
    ("VirtualMachine", "spec.topologySpreadConstraints[].nodeAffinityPolicy"),
    ("VirtualMachine", "spec.topologySpreadConstraints[].nodeTaintsPolicy"),
];

/// Values of shared enums that the kind does not have.
const NEVER: &[(&str, &str, &str)] = &[("ClusterVirtualImage", "status.phase", "PVCLost")];

/// Kinds whose `spec` may be left out. It is there, empty, in the stored object.
const SPEC_OPTIONAL: [&str; 3] =
    ["VirtualMachineIPAddressLease", "VirtualMachineMACAddress", "VirtualMachineMACAddressLease"];

/// Finishes a derived definition.
///
/// Our fields are optional by being absent, not by being null: the API server removes nulls. So `nullable` goes, with
/// integer formats that Kubernetes does not know; conditions get the limits that all of them have.
pub(super) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let kind = crd.spec.names.kind.clone();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        plain(schema);
        for (_, path) in ABSENT.iter().filter(|(of, _)| *of == kind) {
            let (parent, field) = path.rsplit_once('.').unwrap_or(("", path));
            if let Some(fields) = at(schema, parent).and_then(|p| p.properties.as_mut()) {
                fields.remove(field);
            }
        }
        for (_, path, value) in NEVER.iter().filter(|(of, ..)| *of == kind) {
            if let Some(values) = at(schema, path).and_then(|p| p.enum_.as_mut()) {
                values.retain(|v| v.0 != *value);
            }
        }
        if SPEC_OPTIONAL.contains(&kind.as_str()) {
            schema.required = None;
            if let Some(spec) = at(schema, "spec") {
                spec.default = Some(JSON(json!({})));
            }
        }
        if let Some(condition) = at(schema, "status.conditions[]") {
            condition_limits(condition);
        }
        schema.description.get_or_insert_with(|| format!("{kind} of {}.", crd.spec.group));
    }
    crd
}

/// A node by its path: `spec.list[].field`; the root for an empty one.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &str) -> Option<&'a mut JSONSchemaProps> {
    path.split('.').filter(|p| !p.is_empty()).try_fold(schema, |node, step| {
        let (name, list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        let child = node.properties.as_mut()?.get_mut(name)?;
        if !list {
            return Some(child);
        }
        match &mut child.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item.as_mut()),
            _ => None,
        }
    })
}

/// The limits of Kubernetes' own conditions, which the type does not carry.
fn condition_limits(condition: &mut JSONSchemaProps) {
    const TYPE: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                        (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
    let Some(fields) = condition.properties.as_mut() else { return };
    let mut limit = |name: &str, change: &dyn Fn(&mut JSONSchemaProps)| {
        if let Some(field) = fields.get_mut(name) {
            change(field);
        }
    };
    limit("type", &|f| {
        f.pattern = Some(TYPE.to_owned());
        f.max_length = Some(316);
    });
    limit("status", &|f| f.enum_ = Some(["True", "False", "Unknown"].map(|v| JSON(Value::from(v))).to_vec()));
    limit("reason", &|f| {
        f.pattern = Some(REASON.to_owned());
        f.min_length = Some(1);
        f.max_length = Some(1024);
    });
    limit("message", &|f| f.max_length = Some(32_768));
    limit("observedGeneration", &|f| f.minimum = Some(0.0));
}

/// Takes away what only the derivation says, from a node and all below.
fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if matches!(schema.format.as_deref(), Some("uint32" | "uint64" | "uint8" | "uint" | "int" | "uint16")) {
        schema.format = None;
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        // The derivation leaves two empty branches here.
        let branch = |type_: &str| JSONSchemaProps { type_: Some(type_.to_owned()), ..JSONSchemaProps::default() };
        schema.any_of = Some(vec![branch("integer"), branch("string")]);
    }
    for child in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        plain(child);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => plain(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(plain),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(more)) = &mut schema.additional_properties {
        plain(more);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::KINDS;
    use super::*;

    fn schema(kind: &str) -> JSONSchemaProps {
        let crd = KINDS.iter().find(|k| k.kind == kind).and_then(|k| k.crd).unwrap();
        crd().spec.versions.remove(0).schema.unwrap().open_api_v3_schema.unwrap()
    }

    #[test]
    fn the_tables_speak_of_fields_that_the_types_have() {
        for (kind, path) in ABSENT {
            let (parent, field) = path.rsplit_once('.').unwrap();
            let mut schema = schema(kind);
            let fields =
                at(&mut schema, parent).unwrap_or_else(|| panic!("{kind} has no {parent}")).properties.as_ref();
            assert!(fields.is_some_and(|f| !f.contains_key(field)), "{kind} has {path}");
        }
        for (kind, path, value) in NEVER {
            let mut schema = schema(kind);
            let values = at(&mut schema, path).unwrap().enum_.as_ref().unwrap();
            assert!(values.iter().all(|v| v.0 != *value), "{kind} {path} {value}");
        }
        for kind in SPEC_OPTIONAL {
            assert_eq!(at(&mut schema(kind), "spec").unwrap().default, Some(JSON(json!({}))), "{kind}");
        }
    }

    #[test]
    fn every_kind_limits_its_conditions() {
        for kind in KINDS.iter().filter(|k| k.crd.is_some()) {
            let mut schema = schema(kind.kind);
            let condition = at(&mut schema, "status.conditions[]").unwrap_or_else(|| panic!("{}", kind.kind));
            assert!(condition.properties.as_ref().unwrap()["status"].enum_.is_some(), "{}", kind.kind);
        }
    }
}
