//! Checksums of content as it streams by.

use md5::Digest;

use crate::host::VolumeFailure;
use crate::host::volume_job::Failure;

/// A checksum in the making.
enum Hasher {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
    Streebog256(Box<streebog::Streebog256>),
    Streebog512(Box<streebog::Streebog512>),
}

impl Hasher {
    fn named(algorithm: &str) -> Option<Self> {
        Some(match algorithm {
            "md5" => Self::Md5(md5::Md5::new()),
            "sha1" => Self::Sha1(sha1::Sha1::new()),
            "sha256" => Self::Sha256(sha2::Sha256::new()),
            "sha512" => Self::Sha512(Box::default()),
            "streebog256" => Self::Streebog256(Box::default()),
            "streebog512" => Self::Streebog512(Box::default()),
            _ => return None,
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(h) => h.update(bytes),
            Self::Sha1(h) => h.update(bytes),
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
            Self::Streebog256(h) => h.update(bytes),
            Self::Streebog512(h) => h.update(bytes),
        }
    }

    fn hex(self) -> String {
        let bytes = match self {
            Self::Md5(h) => h.finalize().to_vec(),
            Self::Sha1(h) => h.finalize().to_vec(),
            Self::Sha256(h) => h.finalize().to_vec(),
            Self::Sha512(h) => h.finalize().to_vec(),
            Self::Streebog256(h) => h.finalize().to_vec(),
            Self::Streebog512(h) => h.finalize().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The hexadecimal checksum of `content`; `None` for an algorithm that is not known.
#[cfg(test)]
pub(in crate::host) fn hex(algorithm: &str, content: &[u8]) -> Option<String> {
    let mut hasher = Hasher::named(algorithm)?;
    hasher.update(content);
    Some(hasher.hex())
}

/// Expected checksums and what has been seen so far.
pub(in crate::host) struct Checks(Vec<(String, String, Hasher)>);

impl Checks {
    /// From pairs of algorithm and hexadecimal digest.
    pub(in crate::host) fn new(expected: &[(String, String)]) -> Result<Self, Failure> {
        let mut checks = Vec::new();
        for (algorithm, hex) in expected {
            let Some(hasher) = Hasher::named(algorithm) else {
                let detail = format!("checksums of kind {algorithm:?} cannot be checked here; use sha256 or sha512");
                return Err(Failure { kind: VolumeFailure::Checksum, detail });
            };
            checks.push((algorithm.clone(), hex.to_ascii_lowercase(), hasher));
        }
        Ok(Self(checks))
    }

    /// From a digest as registries write it: `sha256:HEX`.
    pub(in crate::host) fn of_digest(digest: &str) -> Result<Self, Failure> {
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("", digest));
        Self::new(&[(algorithm.to_owned(), hex.to_owned())])
    }

    /// More content.
    pub(in crate::host) fn update(&mut self, bytes: &[u8]) {
        for (_, _, hasher) in &mut self.0 {
            hasher.update(bytes);
        }
    }

    /// The content begins anew.
    pub(in crate::host) fn restart(&mut self) -> Result<(), Failure> {
        let expected: Vec<_> = self.0.drain(..).map(|(algorithm, hex, _)| (algorithm, hex)).collect();
        *self = Self::new(&expected)?;
        Ok(())
    }

    /// Compares.
    pub(in crate::host) fn finish(self) -> Result<(), Failure> {
        for (algorithm, expected, hasher) in self.0 {
            let got = hasher.hex();
            if got != expected {
                let detail = format!("the {algorithm} checksum is {got}, expected {expected}");
                return Err(Failure { kind: VolumeFailure::Checksum, detail });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_knows_its_published_example() {
        // RFC 1321, FIPS 180 and RFC 6986 (whose octets are printed there in the reverse order).
        let m1: Vec<u8> = (0..63_u8).map(|i| b'0' + i % 10).collect();
        let cases = [
            ("md5", &b"abc"[..], "900150983cd24fb0d6963f7d28e17f72"),
            ("sha1", b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "sha512",
                b"abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            ("streebog256", &m1, "9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500"),
            (
                "streebog512",
                &m1,
                "1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48",
            ),
        ];
        for (algorithm, content, expected) in cases {
            assert_eq!(hex(algorithm, content).unwrap(), expected, "{algorithm}");
            let mut checks = Checks::new(&[(algorithm.into(), expected.to_uppercase())]).unwrap();
            checks.update(b"something else first");
            checks.restart().unwrap();
            let (one, two) = content.split_at(content.len() / 2);
            checks.update(one);
            checks.update(two);
            checks.finish().unwrap();
            let wrong = Checks::new(&[(algorithm.into(), expected.into())]).unwrap();
            let failure = wrong.finish().unwrap_err();
            assert_eq!(failure.kind, VolumeFailure::Checksum);
            assert!(failure.detail.contains(algorithm) && failure.detail.contains(expected), "{failure}");
        }
    }

    #[test]
    fn unknown_algorithms_are_refused() {
        for digest in ["crc32:00", "abc", ":"] {
            assert_eq!(Checks::of_digest(digest).err().unwrap().kind, VolumeFailure::Checksum, "{digest}");
        }
    }
}
