//! What operations, classes and addresses may be.

use serde_json::{Value, json};

use super::*;

pub(super) fn operations() -> Vec<Case> {
    let clone = |clone: Value| vmop("new", json!({"type": "Clone", "clone": with(json!({"mode": "Strict"}), clone)}));
    let named = || with(clone(json!({"customization": {"namePrefix": "a-"}})), json!({"metadata": {"name": "o"}}));
    let plain = || vmop("o", json!({}));
    let select = |selector: Value| vmop("new", json!({"type": "Migrate", "migrate": {"nodeSelector": selector}}));
    let active = |type_: &str| in_phase(vmop("active", json!({ "type": type_ })), "InProgress");
    vec![
        case(
            "7.1 machine",
            Create,
            vmop("new", json!({"virtualMachineName": ""})),
            "should be at least 1 chars long",
            plain(),
        ),
        case("7.1 type", Create, vmop("new", json!({"type": "Explode"})), "Unsupported value: \"Explode\"", plain()),
        case("7.1 frozen", Update, vmop("o", json!({"type": "Restart"})), ".spec is immutable", plain()),
        case(
            "7.1 force",
            Create,
            vmop("new", json!({"type": "Start", "force": true})),
            "The `Start` operation cannot be performed forcibly.",
            plain(),
        ),
        case(
            "7.1 Restore",
            Create,
            vmop("new", json!({"type": "Restore"})),
            "Restore requires restore field.",
            plain(),
        ),
        case("7.1 Clone", Create, vmop("new", json!({"type": "Clone"})), "Clone requires clone field.", named()),
        case("7.1 names", Create, clone(json!({})), "At least one of customization.namePrefix", named()),
        case(
            "7.1 prefix",
            Create,
            clone(json!({"customization": {"namePrefix": "x".repeat(60)}})),
            "namePrefix length must be between 1 and 59",
            named(),
        ),
        case(
            "7.1 replacement",
            Create,
            clone(json!({"nameReplacement": [{"from": {"name": "a"}, "to": "x".repeat(60)}]})),
            "Each nameReplacement.to must be",
            named(),
        ),
        case("7.1 mode", Create, clone(json!({"mode": "Bold"})), "Unsupported value: \"Bold\"", named()),
        case(
            "7.1 migrate",
            Create,
            vmop("new", json!({"migrate": {}})),
            "spec.migrate can only be set when spec.type is 'Migrate'",
            plain(),
        ),
        case("19 label of a node", Create, select(json!({"a b": "c"})), "not a valid label key", plain()),
        case(
            "19 node of EE",
            Create,
            select(json!({"a": "b"})),
            "choosing the target node is not available",
            with(select(json!({})), json!({"metadata": {"name": "o"}})),
        ),
        among(
            &[active("Stop")],
            case(
                "7.4 one at a time",
                Create,
                vmop("new", json!({"type": "Restart"})),
                "cannot be executed now: Stop \"active\" of VirtualMachine \"m\" has to finish first",
                vmop("o", json!({"force": true})),
            ),
        ),
    ]
}

pub(super) fn classes() -> Vec<Case> {
    let cpu = |cpu: Value| object("vmclass", "c", json!({ "cpu": cpu }));
    let host = || cpu(json!({"type": "Host"}));
    let model = || cpu(json!({"type": "Model", "model": "x"}));
    let sized = |policies: Value| object("vmclass", "c", json!({"cpu": {"type": "Host"}, "sizingPolicies": policies}));
    let range = |min: i64, max: i64| json!({"cores": {"min": min, "max": max}});
    let ranges = |count: i64| Value::from((0..count).map(|n| range(3 * n + 1, 3 * n + 2)).collect::<Vec<_>>());
    vec![
        case("8.1 frozen", Update, cpu(json!({"type": "HostPassthrough"})), ".spec.cpu is immutable", host()),
        case(
            "8.1 type",
            Create,
            with(cpu(json!({"type": "Fast"})), json!({"metadata": {"name": "new"}})),
            "Unsupported value: \"Fast\"",
            host(),
        ),
        case(
            "8.1 model",
            Create,
            with(cpu(json!({"type": "Model"})), json!({"metadata": {"name": "new"}})),
            "Model requires model and cannot have features or discovery",
            model(),
        ),
        case(
            "8.1 features",
            Create,
            with(cpu(json!({"type": "Features", "features": []})), json!({"metadata": {"name": "new"}})),
            "should have at least 1 items",
            host(),
        ),
        case(
            "8.1 no cores",
            Always,
            sized(json!([{"coreFractions": [5]}])),
            "spec.sizingPolicies[0].cores",
            sized(json!([range(1, 2)])),
        ),
        case(
            "8.1 least",
            Always,
            sized(json!([range(0, 2)])),
            "should be greater than or equal to 1",
            sized(json!([range(1, 2)])),
        ),
        case(
            "8.1 most",
            Always,
            sized(json!([range(1, 1025)])),
            "should be less than or equal to 1024",
            sized(json!([range(1, 1024)])),
        ),
        case(
            "8.1 range",
            Always,
            sized(json!([range(4, 4)])),
            "The maximum must be greater than the minimum",
            sized(json!([range(4, 5)])),
        ),
        case(
            "8.1 step",
            Always,
            sized(policy(json!({"cores": {"step": 4}}))),
            "The maximum must be greater than the step",
            sized(policy(json!({"cores": {"step": 3}}))),
        ),
        case("8.1 seventeen", Always, sized(ranges(17)), "Too many: 17", sized(ranges(16))),
        case(
            "19 overlap",
            Always,
            sized(json!([range(1, 4), range(4, 8)])),
            "the range overlaps with that of spec.sizingPolicies[0]",
            sized(json!([range(1, 4), range(5, 8)])),
        ),
        case(
            "8.1 fraction",
            Always,
            sized(policy(json!({"coreFractions": [0]}))),
            "should be greater than or equal to 1",
            sized(policy(json!({"coreFractions": [1]}))),
        ),
        case(
            "19 default fraction",
            Always,
            sized(policy(json!({"coreFractions": [5], "defaultCoreFraction": 6}))),
            "must be among coreFractions: 5%",
            sized(policy(json!({"coreFractions": [5], "defaultCoreFraction": 5}))),
        ),
        case(
            "8.1 default fraction",
            Always,
            sized(policy(json!({"defaultCoreFraction": "6%"}))),
            "The default core fraction must be a number from 1 to 100, or 'Auto'.",
            sized(policy(json!({"defaultCoreFraction": 6}))),
        ),
        among(
            &[default_class("first", "true")],
            case(
                "19 one default",
                Always,
                default_class("c", "true"),
                "VirtualMachineClass \"first\" is the default class already",
                default_class("c", "false"),
            ),
        ),
    ]
}

pub(super) fn addresses() -> Vec<Case> {
    let fixed = |address: &str| vmip("Static", address);
    let auto = || vmip("Auto", "");
    let used = in_phase(vmmac("a", "02:00:00:00:00:01"), "Bound");
    let mac_lease = |name: &str| object("vmmacl", name, json!({}));
    let ip_lease = |name: &str| object("vmipl", name, json!({}));
    vec![
        case(
            "15.4 Static alone",
            Always,
            fixed(""),
            "the 'Static IP' field should be set for the IP address with the 'Static' type",
            fixed("10.66.10.9"),
        ),
        case("15.4 no address", Always, fixed("10.66.10"), "not a valid textual representation", fixed("10.66.10.9")),
        case("15.4 Auto with address", Always, vmip("Auto", "10.66.10.9"), "although the type is Auto", auto()),
        case(
            "15.4 range",
            Create,
            fixed("10.99.0.1"),
            "the requested address 10.99.0.1 is out of the valid range",
            fixed("10.66.10.9"),
        ),
        case("15.4 network address", Create, fixed("10.66.10.0"), "is out of the valid range", fixed("10.66.10.1")),
        among(
            &[lease("10.66.10.5", "other")],
            case(
                "15.4 taken",
                Always,
                fixed("10.66.10.5"),
                "the address has already been allocated and has not been released (by default/other)",
                fixed("10.66.10.6"),
            ),
        ),
        case(
            "15.4 pinned elsewhere",
            Update,
            fixed("10.66.10.21"),
            "the address in use is 10.66.10.20",
            bound(auto(), "10.66.10.20"),
        ),
        case(
            "15.4 type of a bound one",
            Update,
            auto(),
            "cannot be changed while the address is allocated",
            bound(fixed("10.66.10.20"), "10.66.10.20"),
        ),
        case(
            "15.4 other address of a bound one",
            Update,
            fixed("10.66.10.21"),
            "cannot be changed from 10.66.10.20",
            bound(fixed("10.66.10.20"), "10.66.10.20"),
        ),
        case("15.4 no subnets", Create, auto(), "no subnets for machine addresses are configured", vm(json!({}))),
        case("19 lease", Create, ip_lease("a"), "not an address: a lease is called ip-", ip_lease("ip-10-66-10-9")),
        case("15.4 mac", Always, vmmac("a", "02:00"), "should match", vmmac("a", "02-00-00-00-00-01")),
        case(
            "15.4 mac of a bound one",
            Update,
            vmmac("a", "02:00:00:00:00:02"),
            "cannot be changed while the address is allocated",
            used.clone(),
        ),
        among(
            &[used],
            case(
                "15.4 mac twice",
                Create,
                vmmac("new", "02-00-00-00-00-01"),
                "already used by VirtualMachineMACAddress default/a",
                vmmac("b", "02-00-00-00-00-02"),
            ),
        ),
        case(
            "15.4 mac lease",
            Create,
            mac_lease("a"),
            "not a MAC address: a lease is called mac-",
            mac_lease("mac-02-00-00-00-00-01"),
        ),
    ]
}
