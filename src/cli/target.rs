//! Words that name machines: `name`, `name.namespace`, `user@name.namespace`, forwarded ports, remote files.

/// A machine, with the namespace if one is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Name.
    pub name: String,
    /// Namespace, if written.
    pub namespace: Option<String>,
}

/// Reads `name` or `name.namespace`; also `vm/name`. What follows a second dot is ignored, as `d8 v` has it.
pub fn machine(text: &str) -> Result<Machine, String> {
    let bare = ["vm/", "virtualmachine/", "virtualmachines/"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
    let mut parts = bare.split('.');
    let name = parts.next().unwrap_or_default();
    let namespace = parts.next();
    if name.is_empty() || namespace == Some("") || bare.contains('/') {
        return Err(format!("\"{text}\" names no machine: write NAME or NAME.NAMESPACE"));
    }
    Ok(Machine { name: name.into(), namespace: namespace.map(Into::into) })
}

/// Reads `[user@]name[.namespace]`.
pub fn login(text: &str) -> Result<(Option<String>, Machine), String> {
    match text.rsplit_once('@') {
        Some(("", _)) => Err(format!("\"{text}\" has no user before @")),
        Some((user, rest)) => Ok((Some(user.into()), machine(rest)?)),
        None => Ok((None, machine(text)?)),
    }
}

/// A forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// UDP instead of TCP.
    pub udp: bool,
    /// Here; 0 = any free one.
    pub local: u16,
    /// In the machine.
    pub remote: u16,
}

/// Reads `[tcp/|udp/]local[:remote]`; `:remote` takes any free local port.
pub fn forward(text: &str) -> Result<Forward, String> {
    let wrong = || format!("\"{text}\" is no port: write [tcp/|udp/]LOCAL[:REMOTE]");
    let (protocol, ports) = text.split_once('/').unwrap_or(("tcp", text));
    let udp = match protocol {
        "tcp" => false,
        "udp" => true,
        _ => return Err(wrong()),
    };
    let number = |s: &str| s.parse::<u16>().map_err(|_| wrong());
    let (local, remote) = match ports.split_once(':') {
        Some(("", remote)) => (0, number(remote)?),
        Some((local, remote)) => (number(local)?, number(remote)?),
        None => (number(ports)?, number(ports)?),
    };
    if remote == 0 {
        return Err(wrong());
    }
    Ok(Forward { udp, local, remote })
}

/// A side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A local file.
    Local(String),
    /// A file in a machine.
    Remote {
        /// Login name, if written.
        user: Option<String>,
        /// The machine.
        machine: Machine,
        /// Path there.
        path: String,
    },
}

/// Reads one side of `scp`: whatever has a colon before any slash is remote.
pub fn place(text: &str) -> Result<Place, String> {
    match text.split_once(':') {
        Some((host, path)) if !host.contains('/') => {
            let (user, machine) = login(host)?;
            Ok(Place::Remote { user, machine, path: path.into() })
        }
        _ => Ok(Place::Local(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines() {
        let m = |name: &str, ns: Option<&str>| Machine { name: name.into(), namespace: ns.map(Into::into) };
        for (text, want) in
            [("a", m("a", None)), ("a.b", m("a", Some("b"))), ("a.b.svc", m("a", Some("b"))), ("vm/a", m("a", None))]
        {
            assert_eq!(machine(text), Ok(want), "{text}");
        }
        for bad in ["", ".x", "x.", "vmop/a", "a/b"] {
            assert!(machine(bad).is_err(), "{bad}");
        }
        assert_eq!(login("cloud@a"), Ok((Some("cloud".into()), m("a", None))));
        assert_eq!(login("x@y@a.b"), Ok((Some("x@y".into()), m("a", Some("b")))));
        assert!(login("@a").is_err());
    }

    #[test]
    fn forwards() {
        let f = |udp, local, remote| Forward { udp, local, remote };
        for (text, want) in [
            ("22", f(false, 22, 22)),
            ("8080:80", f(false, 8080, 80)),
            (":80", f(false, 0, 80)),
            ("udp/53", f(true, 53, 53)),
        ] {
            assert_eq!(forward(text), Ok(want), "{text}");
        }
        for bad in ["", "x", "70000", "icmp/1", "80:", "0", "80:0"] {
            assert!(forward(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places() {
        assert_eq!(place("./a:b"), Ok(Place::Local("./a:b".into())));
        assert_eq!(place("plain"), Ok(Place::Local("plain".into())));
        assert!(matches!(place("u@vm:/x"), Ok(Place::Remote { path, .. }) if path == "/x"));
    }
}
