use super::*;

fn value(path: &[&str], accept: &str) -> Value {
    serde_json::from_slice(&document(path, accept).expect("document").body).expect("JSON")
}

#[test]
fn forms_by_accept_header() {
    const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    for (accept, form) in [
        ("", Form::Plain),
        ("*/*", Form::Plain),
        ("application/json", Form::Plain),
        ("application/json, */*", Form::Plain),
        (V2, Form::V2),
        (&format!("{V2},{BETA},application/json"), Form::V2),
        (&format!("{BETA},application/json"), Form::V2Beta1),
        (&format!("{V2};profile=nopeer,{V2},{BETA},application/json"), Form::V2),
        (&format!("{V2};profile=nopeer"), Form::Plain),
        (&format!("application/json,{V2}"), Form::Plain),
        ("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json", Form::Plain),
        ("application/vnd.kubernetes.protobuf,application/json;q=0.9", Form::Plain),
    ] {
        assert_eq!(Form::wanted(accept), form, "{accept}");
    }
    let document = document(&["apis"], V2).expect("document");
    assert_eq!(document.content_type, V2);
    assert!(document.is(&document.etag) && document.is(&format!("\"x\", W/{}", document.etag)));
    assert!(!document.is("\"x\""));
}

#[test]
fn plain_documents() {
    assert_eq!(value(&["api"], "")["versions"], json!(["v1"]));
    let groups = value(&["apis"], "");
    for group in groups["groups"].as_array().expect("groups") {
        let name = group["name"].as_str().expect("name");
        let version = group["preferredVersion"]["version"].as_str().expect("version");
        assert_eq!(value(&["apis", name], "")["kind"], "APIGroup");
        let list = value(&["apis", name, version], "");
        assert_eq!(list["groupVersion"], group["versions"][0]["groupVersion"]);
        assert!(!list["resources"].as_array().expect("resources").is_empty(), "{name}");
    }
    assert_eq!(document(&["apis", "nope"], ""), None);
    assert_eq!(document(&["apis", ""], ""), None);
    assert_eq!(document(&["apis", GROUP, "v9"], ""), None);
    assert_eq!(document(&["api", "v2"], ""), None);
}

#[test]
fn every_stored_kind_is_listed_with_its_status() {
    for kind in KINDS {
        let path = match kind.group {
            "" => vec!["api", kind.version],
            group => vec!["apis", group, kind.version],
        };
        let list = value(&path, "");
        let names: Vec<&str> =
            list["resources"].as_array().expect("list").iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(names.contains(&kind.plural), "{}", kind.kind);
        assert_eq!(names.contains(&format!("{}/status", kind.plural).as_str()), kind.status, "{}", kind.kind);
    }
}

#[test]
fn aggregated_documents_say_the_same() {
    const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let core = value(&["api"], V2);
    assert_eq!(core["items"][0]["metadata"], json!({}));
    assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
    let named = value(&["apis"], V2);
    let items = named["items"].as_array().expect("items");
    assert_eq!(items.len(), value(&["apis"], "")["groups"].as_array().expect("groups").len());
    let vm = &items[0]["versions"][0]["resources"][0];
    assert_eq!(
        (&vm["resource"], &vm["shortNames"], &vm["subresources"][0]["subresource"]),
        (&json!("virtualmachines"), &json!(["vm"]), &json!("status"))
    );
    let newer = &items[0]["versions"][1];
    assert_eq!(
        (&newer["version"], &newer["resources"][0]["resource"]),
        (&json!("v1alpha3"), &json!("virtualmachineclasses"))
    );
    let plain = value(&["apis", GROUP], "");
    assert_eq!(
        (&plain["versions"][1]["version"], &plain["preferredVersion"]["version"]),
        (&json!("v1alpha3"), &json!("v1alpha2"))
    );
    // Streams have no kind of their own to list.
    let streams = &items[1]["versions"][0]["resources"][0];
    assert_eq!(streams.get("responseKind"), None);
    assert_eq!(streams["subresources"].as_array().map(Vec::len), Some(5));
}
