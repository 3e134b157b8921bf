//! How many sockets a machine's cores are spread over, and which numbers of cores that allows.

/// Most cores of a machine.
pub const MAX_CORES: i64 = 248;

/// Sockets of a machine with so many cores.
pub fn sockets(cores: i64) -> i64 {
    match cores {
        ..=16 => 1,
        17..=32 => 2,
        33..=64 => 4,
        _ => 8,
    }
}

/// What is wrong with a number of cores, if anything.
pub fn problem(cores: i64) -> Option<String> {
    if cores > MAX_CORES {
        return Some(format!("the number of cores should not exceed {MAX_CORES}"));
    }
    let sockets = sockets(cores);
    if cores % sockets == 0 {
        return None;
    }
    let lower = cores - cores % sockets;
    Some(format!(
        "so many cores are spread over {sockets} sockets and must be a multiple of {sockets}; the nearest are {lower} and {}",
        lower + sockets
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_numbers() {
        for (cores, sockets_of, allowed) in [
            (1, 1, true),
            (16, 1, true),
            (17, 2, false),
            (18, 2, true),
            (32, 2, true),
            (33, 4, false),
            (36, 4, true),
            (64, 4, true),
            (65, 8, false),
            (72, 8, true),
            (248, 8, true),
            (256, 8, false),
        ] {
            assert_eq!(sockets(cores), sockets_of, "{cores}");
            assert_eq!(problem(cores).is_none(), allowed, "{cores}");
        }
        assert!(problem(17).is_some_and(|p| p.contains("16 and 18")));
    }
}
