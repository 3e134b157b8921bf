//! Who a client certificate is for: common name and organizations of its subject.

/// What the subject says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN.
    pub common_name: String,
    /// Each O.
    pub organizations: Vec<String>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, IA5String: the ones whose bytes are text as they are.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// Reads the subject of a certificate in DER. The certificate has been verified by then; still nothing is assumed of
/// its form, and `None` is given for one that cannot be read.
pub fn of(certificate: &[u8]) -> Option<Subject> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(body, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = skip(rest)?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        rest = skip(rest)?;
    }
    let (mut names, _) = element(rest, SEQUENCE)?;
    let mut subject = Subject::default();
    while !names.is_empty() {
        let (set, after) = element(names, SET)?;
        let (pair, _) = element(set, SEQUENCE)?;
        let (kind, value) = element(pair, OBJECT_ID)?;
        let tag = *value.first()?;
        let (text, _) = element(value, tag)?;
        if TEXTS.contains(&tag) {
            let text = std::str::from_utf8(text).ok()?.to_owned();
            if kind == COMMON_NAME {
                subject.common_name = text;
            } else if kind == ORGANIZATION {
                subject.organizations.push(text);
            }
        }
        names = after;
    }
    Some(subject)
}

/// The content of the element at the start, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |n, d| (n << 8) | usize::from(*d)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn skip(bytes: &[u8]) -> Option<&[u8]> {
    element(bytes, *bytes.first()?).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "anna");
        params.distinguished_name.push(DnType::OrganizationName, "vmdeck:view");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_read() {
        let subject = of(&certificate()).unwrap();
        assert_eq!(
            (subject.common_name.as_str(), &subject.organizations[..]),
            ("anna", &["vmdeck:view".to_owned()][..])
        );
    }

    #[test]
    fn damaged_ones_are_refused_without_a_panic() {
        let whole = certificate();
        for length in 0..whole.len() {
            of(&whole[..length]);
            let mut broken = whole.clone();
            broken[length] ^= 0xff;
            of(&broken);
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
