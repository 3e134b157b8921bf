//! Viewers of a screen go on while the guest moves to another QEMU.

use crate::support::viewer::{HEXTILE, TIGHT, Viewer};
use crate::support::{Console, SOON, World};

/// Shows a text on the guest's screen, without a cursor that blinks.
fn show(console: &mut Console, text: &str) {
    console
        .run(&format!("sudo sh -c 'printf \"\\033[?25l\\033[2J\\033[5;5H\\033[3%dm%s\\n\" 2 \"{text}\" > /dev/tty1'"));
}

/// The keys that the guest has seen, as `code:down` without repetitions.
fn keys(console: &mut Console) -> String {
    console.run(
        "hexdump -v -e '12/2 \"%u \" \"\\n\"' /tmp/keys | awk '$9 == 1 && $11 != 2 { printf \"%s:%s \", $10, $11 }'",
    )
}

fn until_keys(console: &mut Console, expected: &str) {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let seen = keys(console);
        if seen == expected {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the guest has seen {seen:?} instead of {expected:?}");
    }
}

#[test]
fn a_screen_goes_on_and_keys_arrive() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    console.run("sudo sh -c 'cat /dev/input/event0 > /tmp/keys &'");
    show(&mut console, "before");
    let mut viewers = [("tight", TIGHT), ("hextile", HEXTILE)].map(|(name, e)| (name, Viewer::open(&world, "m", e)));
    let all_show = |viewers: &mut [(&str, Viewer)], when: &str| {
        for (name, viewer) in viewers {
            viewer.shows_the_screen(&world, &format!("{when}, {name}"));
        }
    };
    all_show(&mut viewers, "before");
    // `a`, and then one that stays down.
    viewers[0].1.key(0x61, true);
    viewers[0].1.key(0x61, false);
    viewers[0].1.key(0x62, true);
    until_keys(&mut console, "30:1 30:0 48:1");

    let source = world.qemu_pids();
    world.ok(&["evict", "m", "--wait"]);
    assert_ne!(world.qemu_pids(), source);
    all_show(&mut viewers, "after the move");
    show(&mut console, "a change after the move");
    all_show(&mut viewers, "changed after the move");
    // The guest must hear that the key was let go of, by a QEMU that never saw it go down.
    viewers[0].1.key(0x62, false);
    // Two viewers have two ways to the guest: the order is ours only if one is waited for.
    until_keys(&mut console, "30:1 30:0 48:1 48:0");
    viewers[1].1.key(0x63, true);
    viewers[1].1.key(0x63, false);
    until_keys(&mut console, "30:1 30:0 48:1 48:0 46:1 46:0");

    world.ok(&["delete", "vmop", "--all"]);
    world.ok(&["evict", "m", "--wait"]);
    show(&mut console, "after the second move");
    all_show(&mut viewers, "after the second move");
    world.leaves_nothing();
}
