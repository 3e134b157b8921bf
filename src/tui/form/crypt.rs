//! Password hashes for cloud-init's `passwd`: SHA-512 crypt (`$6$`), so that the plain text goes nowhere.
//!
//! Follows "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper; the tests are that paper's vectors.

use sha2::{Digest, Sha512};

/// Alphabet of crypt's own base 64.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Rounds where a hash does not say otherwise.
const DEFAULT_ROUNDS: u32 = 5000;

/// Longest salt that counts, in bytes.
const SALT_BYTES: usize = 16;

/// Length of `$6$` hashes with a salt of 16 characters and the default rounds, in bytes.
pub const HASH_BYTES: usize = 3 + SALT_BYTES + 1 + 86;

/// `password` as `$6$salt$hash`. 96 random bits become the 16 characters of the salt.
pub fn hash_password(password: &str, random: [u8; 12]) -> String {
    let mut salt = String::with_capacity(SALT_BYTES);
    for three in random.chunks(3) {
        push_base64(&mut salt, [three[0], three[1], three[2]], 4);
    }
    sha512_crypt(password.as_bytes(), &salt, None)
}

/// SHA-512 crypt with a salt and, if given, a number of rounds.
fn sha512_crypt(password: &[u8], salt: &str, rounds: Option<u32>) -> String {
    let salt = &salt.as_bytes()[..salt.len().min(SALT_BYTES)];
    let count = rounds.unwrap_or(DEFAULT_ROUNDS).clamp(1000, 999_999_999);

    let alternate = digest(&[password, salt, password]);
    let mut context = Sha512::new();
    context.update(password);
    context.update(salt);
    context.update(repeated(&alternate, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        if bits & 1 == 1 {
            context.update(alternate);
        } else {
            context.update(password);
        }
        bits >>= 1;
    }
    let mut result: [u8; 64] = context.finalize().into();

    let mut context = Sha512::new();
    for _ in 0..password.len() {
        context.update(password);
    }
    let by_password = repeated(&context.finalize(), password.len());
    let mut context = Sha512::new();
    for _ in 0..16 + usize::from(result[0]) {
        context.update(salt);
    }
    let by_salt = repeated(&context.finalize(), salt.len());

    for round in 0..count {
        let mut context = Sha512::new();
        let odd = round & 1 == 1;
        context.update(if odd { &by_password } else { result.as_slice() });
        if round % 3 != 0 {
            context.update(&by_salt);
        }
        if round % 7 != 0 {
            context.update(&by_password);
        }
        context.update(if odd { result.as_slice() } else { &by_password });
        result = context.finalize().into();
    }

    let mut out = String::from("$6$");
    if rounds.is_some() {
        out.push_str(&format!("rounds={count}$"));
    }
    out.extend(salt.iter().map(|b| char::from(*b)));
    out.push('$');
    let (mut a, mut b, mut c) = (0, 21, 42);
    for _ in 0..21 {
        push_base64(&mut out, [result[a], result[b], result[c]], 4);
        (a, b, c) = (b + 1, c + 1, a + 1);
    }
    push_base64(&mut out, [0, 0, result[63]], 2);
    out
}

fn digest(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = Sha512::new();
    for part in parts {
        context.update(part);
    }
    context.finalize().into()
}

/// `block` over and over, `length` bytes of it.
fn repeated(block: &[u8], length: usize) -> Vec<u8> {
    block.iter().copied().cycle().take(length).collect()
}

/// Three bytes, highest first, as `count` characters, lowest six bits first.
fn push_base64(out: &mut String, bytes: [u8; 3], count: usize) {
    let mut word = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
    for _ in 0..count {
        out.push(char::from(ALPHABET[(word & 63) as usize]));
        word >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let table: &[(&str, Option<u32>, &str, &str)] = &[
            (
                "Hello world!",
                None,
                "saltstring",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "Hello world!",
                Some(10_000),
                "saltstringsaltstring",
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
            (
                "This is just a test",
                Some(5000),
                "toolongsaltstring",
                "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
            ),
            (
                "a very much longer text to encrypt.  This one even stretches over morethan one line.",
                Some(1400),
                "anotherlongsaltstring",
                "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
            ),
            (
                "the minimum number is still observed",
                Some(10),
                "roundstoolow",
                "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.",
            ),
        ];
        for (password, rounds, salt, expected) in table {
            assert_eq!(sha512_crypt(password.as_bytes(), salt, *rounds), *expected);
        }
        // The user guide's own example: the password is "cloud".
        assert_eq!(
            sha512_crypt(b"cloud", "saltsalt", Some(4096)),
            "$6$rounds=4096$saltsalt$fPmUsbjAuA7mnQNTajQM6ClhesyG0.yyQhvahas02ejfMAq1ykBo1RquzS0R6GgdIDlvS.kbUwDablGZKZcTP/"
        );
    }

    #[test]
    fn salts_come_from_random_bits_and_lengths_are_fixed() {
        let a = hash_password("secret", [0; 12]);
        let b = hash_password("secret", [255; 12]);
        assert!(a.starts_with("$6$................$"), "{a}");
        assert!(b.starts_with("$6$zzzzzzzzzzzzzzzz$"), "{b}");
        assert_eq!((a.len(), b.len()), (HASH_BYTES, HASH_BYTES));
        assert_eq!(hash_password("", [7; 12]).len(), HASH_BYTES);
    }
}
