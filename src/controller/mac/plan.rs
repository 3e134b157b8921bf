//! Which address a VirtualMachineMACAddress gets. Pure.

use md5::Digest;

use crate::types::LeaseHolder;

/// Condition reasons of `Bound`.
pub mod reason {
    /// Another VirtualMachineMACAddress holds it.
    pub const TAKEN: &str = "VirtualMachineMACAddressLeaseAlreadyExists";
    /// The lease of a bound address is gone.
    pub const LOST: &str = "VirtualMachineMACAddressLeaseLost";
}

/// The VirtualMachineMACAddress in question.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Its name and namespace.
    pub me: LeaseHolder,
    /// Its UID.
    pub uid: &'a str,
    /// `spec.address`, lower case with colons.
    pub asked: Option<String>,
    /// `status.address`.
    pub bound: Option<&'a str>,
    /// Address of a lease that names this object already.
    pub leased: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The lease names us.
    Bound(String),
    /// Make a lease for this address.
    Allocate(String),
    /// It cannot be done now.
    Refused {
        /// Reason of the condition `Bound`.
        reason: &'static str,
        /// For the user.
        message: String,
        /// The address that stays in status, if there is one.
        address: Option<String>,
    },
}

/// Decides. `holder` looks an address's lease up: `None` is free. `cluster` names this installation; addresses that
/// nobody asked for begin with three bytes made from it.
pub fn plan(wish: &Wish<'_>, cluster: &str, holder: impl Fn(&str) -> Option<LeaseHolder>) -> Plan {
    if let Some(bound) = wish.bound {
        if holder(bound).as_ref() == Some(&wish.me) {
            return Plan::Bound(bound.to_owned());
        }
        return Plan::Refused {
            reason: reason::LOST,
            message: format!(
                "The lease of {bound} is gone. Delete this VirtualMachineMACAddress and create it again to get an \
                 address."
            ),
            address: Some(bound.to_owned()),
        };
    }
    if let Some(address) = &wish.leased {
        return Plan::Bound(address.clone());
    }
    let Some(asked) = &wish.asked else {
        let free = candidates(cluster, wish.uid).find(|a| holder(a).is_none());
        // There are sixteen million of them; without one there would be no end of candidates either.
        return Plan::Allocate(free.unwrap_or_default());
    };
    match holder(asked) {
        None => Plan::Allocate(asked.clone()),
        Some(by) if by == wish.me => Plan::Bound(asked.clone()),
        Some(by) => Plan::Refused {
            reason: reason::TAKEN,
            message: format!("{asked} is leased to VirtualMachineMACAddress {}/{}.", by.namespace, by.name),
            address: None,
        },
    }
}

/// Locally administered unicast addresses for an object, the same at every call.
fn candidates<'a>(cluster: &str, uid: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let vendor = md5::Md5::digest(format!("oui/{cluster}").as_bytes());
    (0u32..).map(move |attempt| {
        let own = md5::Md5::digest(format!("{uid}/{attempt}").as_bytes());
        let first = (vendor[0] & 0b1111_1100) | 0b0000_0010;
        format!("{first:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", vendor[1], vendor[2], own[0], own[1], own[2])
    })
}

/// An address as it is compared: lower case, with colons.
pub fn canonical(address: &str) -> String {
    address.to_ascii_lowercase().replace('-', ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str) -> LeaseHolder {
        LeaseHolder { name: name.into(), namespace: "ns".into() }
    }

    fn wish<'a>(asked: Option<&str>, bound: Option<&'a str>) -> Wish<'a> {
        Wish { me: holder("me"), uid: "u", asked: asked.map(canonical), bound, leased: None }
    }

    /// upstream.md 15.4, last paragraph.
    #[test]
    fn an_address_that_was_asked_for() {
        let a = "02:00:00:00:00:0a";
        for (name, asked, bound, leased_to, expected) in [
            ("free", Some("02-00-00-00-00-0A"), None, None, Ok(Plan::Allocate(a.into()))),
            ("ours", Some(a), None, Some("me"), Ok(Plan::Bound(a.into()))),
            ("another's", Some(a), None, Some("you"), Err("VirtualMachineMACAddressLeaseAlreadyExists")),
            ("bound", Some(a), Some(a), Some("me"), Ok(Plan::Bound(a.into()))),
            ("lost", Some(a), Some(a), None, Err("VirtualMachineMACAddressLeaseLost")),
            ("lost to another", Some(a), Some(a), Some("you"), Err("VirtualMachineMACAddressLeaseLost")),
        ] {
            let got = plan(&wish(asked, bound), "c", |_| leased_to.map(holder));
            match expected {
                Ok(expected) => assert_eq!(got, expected, "{name}"),
                Err(wanted) => {
                    assert!(matches!(&got, Plan::Refused { reason, .. } if *reason == wanted), "{name}: {got:?}")
                }
            }
        }
    }

    #[test]
    fn an_address_that_nobody_asked_for_is_local_free_and_begins_like_its_installation() {
        let Plan::Allocate(first) = plan(&wish(None, None), "c", |_| None) else { panic!() };
        let byte = u8::from_str_radix(&first[..2], 16).unwrap();
        assert_eq!((byte & 0b11, first.len()), (0b10, 17), "{first}");
        let Plan::Allocate(second) = plan(&wish(None, None), "c", |a| (a == first).then(|| holder("you"))) else {
            panic!()
        };
        assert_ne!(first, second);
        assert_eq!(first[..8], second[..8]);
        let Plan::Allocate(elsewhere) = plan(&wish(None, None), "d", |_| None) else { panic!() };
        assert_ne!(first[..8], elsewhere[..8]);
        // A lease made before the status was written is found again.
        let again = Wish { leased: Some(second.clone()), ..wish(None, None) };
        assert_eq!(plan(&again, "c", |_| None), Plan::Bound(second));
    }
}
